"""`rasa train` for `make train`: the same model in half the time. `python -m ops.local.train [OPTIONS OF rasa train]`.

Runs under the worker's Python, from the root of the project. Two things are left out: the import of TensorFlow, if
config.yml names no component that needs it (9 s), and the second reading of the data (4 s), because validation and
training get the same importer.
"""

import sys
from pathlib import Path
from typing import Any, List

from kefu.worker.start import lean


def main(arguments: List[str]) -> None:
    """Train; ends the process with Rasa's exit code."""
    lean.begin_training(Path("config.yml"))
    from rasa.__main__ import main as rasa

    read_data_once()
    sys.argv = ["rasa", "train", *arguments]
    rasa()


def read_data_once() -> None:
    """Let all of this process's calls of `load_from_config` return one importer, which keeps what it has read."""
    from rasa.shared.importers.importer import TrainingDataImporter

    load = TrainingDataImporter.load_from_config
    importers: List[Any] = []

    def load_once(*args: Any, **options: Any) -> Any:
        if not importers:
            importers.append(load(*args, **options))
        return importers[0]

    TrainingDataImporter.load_from_config = staticmethod(load_once)


if __name__ == "__main__":
    main(sys.argv[1:])
