"""`rasa train --force` for `make train`: the same model in a third of the time.

`python -m ops.local.train [OPTIONS OF rasa train]`, under the worker's Python, from the root of the project. Left out:

- the import of TensorFlow, if config.yml names no component that needs it;
- the second and third reading of the data;
- copies of all examples, and digests of all of an example's data, each time that Rasa merges two lists of examples;
- Rasa's cache of what each component returned, which a forced training writes and does not read;
- the collection of cyclic garbage, of which there are 30 MB by the end of a training on the shipped data.
"""

import copy
import gc
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, List

from kefu.worker.start import lean


def main(arguments: List[str]) -> None:
    """Train; ends the process with Rasa's exit code."""
    gc.disable()
    lean.begin_training(Path("config.yml"))
    from rasa.__main__ import main as rasa

    read_data_once()
    merge_fast()
    keep_no_outputs()
    sys.argv = ["rasa", "train", "--force", *arguments]  # forced: Rasa's cache ignores changes of Kefu's components
    rasa()


def read_data_once() -> None:
    """Give validation and training one importer, whose parts keep what they have read, as Rasa's outer importers do."""
    from rasa.shared.importers.importer import TrainingDataImporter
    from rasa.shared.importers.rasa import RasaFileImporter
    from rasa.shared.utils.common import cached_method

    load = TrainingDataImporter.load_from_config
    importers: List[Any] = []

    def load_once(*args: Any, **options: Any) -> Any:
        if not importers:
            importers.append(load(*args, **options))
        return importers[0]

    TrainingDataImporter.load_from_config = staticmethod(load_once)
    for name in ("get_domain", "get_nlu_data", "get_stories"):
        setattr(RasaFileImporter, name, cached_method(getattr(RasaFileImporter, name)))


def merge_fast() -> None:
    """Merge lists of examples without copies. Components change examples only after all lists are merged.

    An example is hashed by its text and intent. Whether two of them are equal is still decided by all of their data.
    """
    from rasa.shared.nlu.constants import INTENT, TEXT
    from rasa.shared.nlu.training_data import training_data
    from rasa.shared.nlu.training_data.message import Message

    training_data.copy = SimpleNamespace(copy=copy.copy, deepcopy=copy.copy)
    Message.__hash__ = lambda self: hash((self.get(TEXT), self.get(INTENT)))


def keep_no_outputs() -> None:
    """Write no cache, for which Rasa computes digests of all that goes into a component and comes out of it."""
    from rasa.engine.training.hooks import TrainingHook

    TrainingHook.on_before_node = lambda *_, **__: {}
    TrainingHook.on_after_node = lambda *_, **__: None


if __name__ == "__main__":
    main(sys.argv[1:])
