"""A trained model in memory, with the fast graph and policies. It is loaded once and shared."""

from typing import NamedTuple

from rasa.core.processor import MessageProcessor
from rasa.engine.runner.dask import DaskGraphRunner
from rasa.engine.storage.storage import ModelMetadata

from kefu.worker.engine.graph import DirectGraphRunner
from kefu.worker.engine.policies import make_quick
from kefu.worker.start import lean


class LoadedModel(NamedTuple):
    """A model in memory, as `MessageProcessor._load_model` returns it."""

    filename: str
    metadata: ModelMetadata
    runner: DirectGraphRunner

    @classmethod
    def from_path(cls, path: str) -> "LoadedModel":
        """Load a model. Blocks for seconds, so call it in a thread. Raises Rasa's own errors."""
        lean.make_fit(path)
        return cls.of(*MessageProcessor._load_model(path))

    @classmethod
    def of(cls, filename: str, metadata: ModelMetadata, loaded: DaskGraphRunner) -> "LoadedModel":
        """Return a model that Rasa has loaded, with the fast graph and policies in place of Rasa's."""
        runner = DirectGraphRunner(loaded)
        make_quick(runner)
        return cls(filename, metadata, runner)
