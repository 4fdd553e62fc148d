"""The intent classifier: an n-gram layer decides alone where it is sure enough; sentence vectors are added elsewhere.

Over the vectors there are a linear layer and a small network. Training finds the weights of the three layers, the
probability that is sure enough, and the threshold of out of scope (see `tuning`). Nothing here needs TensorFlow.
"""

import hashlib
import json
import logging
import os
from collections import Counter
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np
from rasa.engine.graph import ExecutionContext, GraphComponent
from rasa.engine.recipes.default_recipe import DefaultV1Recipe
from rasa.engine.storage.resource import Resource
from rasa.engine.storage.storage import ModelStorage
from rasa.nlu.classifiers.classifier import IntentClassifier
from rasa.nlu.constants import TOKENS_NAMES
from rasa.nlu.tokenizers.tokenizer import Tokenizer
from rasa.shared.constants import DEFAULT_NLU_FALLBACK_INTENT_NAME
from rasa.shared.nlu.constants import INTENT, INTENT_RANKING_KEY, TEXT
from rasa.shared.nlu.training_data.message import Message
from rasa.shared.nlu.training_data.training_data import TrainingData
from threadpoolctl import threadpool_limits

from kefu.worker.nlu import linear, tuning
from kefu.worker.nlu import vectors as encoder
from kefu.worker.nlu.network import Network, Projection
from kefu.worker.nlu.ngrams import Bag, NgramModel, bag, matrix
from kefu.worker.nlu.scores import details
from kefu.worker.nlu.transfer import Transfer, scripts
from kefu.worker.nlu.tuning import Logits, Tuning, cross_validated, tune, weigh
from kefu.worker.nlu.vector_cache import cached
from kefu.worker.nlu.vectors import PREPARED, SentenceEncoder

logger = logging.getLogger(__name__)

_MODEL = "model.json"
_WEIGHTS = "weights.npz"
_NO_INPUTS = {"vector_cache", "measured", "ranking_length"}  # settings that don't change the trained model


@DefaultV1Recipe.register(DefaultV1Recipe.ComponentType.INTENT_CLASSIFIER, is_trainable=True)
class CascadeIntentClassifier(IntentClassifier, GraphComponent):
    """Gives each message an intent with a calibrated confidence; `nlu_fallback` if the confidence is too low."""

    @classmethod
    def required_components(cls) -> List[type]:
        """Return what has to stand before this one: tokens come from a tokenizer."""
        return [Tokenizer]

    @staticmethod
    def required_packages() -> List[str]:
        """Return the packages needed to train."""
        return ["scipy", "sentencepiece"]

    @staticmethod
    def get_default_config() -> Dict[str, Any]:
        """Return the settings, see the comments."""
        return {
            "vectors": True,  # False: the n-gram layer alone, which takes 0.05 ms a message and 110 MB less
            "ngrams_C": 30.0,  # inverse strength of regularisation of each linear layer
            "vectors_C": 100.0,
            "out_of_scope": "out_of_scope",  # the intent of messages that belong to no other intent
            "ngrams_loss": 0.002,  # accuracy that may be lost because the n-gram layer decides alone, see `tuning`
            "in_scope_lost": 0.025,  # limits the share of messages in scope that are refused, see `tuning`
            "ranking_length": 5,
            "random_seed": 42,
            "vector_cache": None,  # a file with the phrases' vectors, kept for the next training
            "measured": None,  # a file of `make card`, whose tuning is used if it is of the same phrases
        }

    def __init__(self, config: Dict[str, Any], storage: ModelStorage, resource: Resource) -> None:
        """Build an untrained classifier."""
        self._config = config
        self._storage = storage
        self._resource = resource
        self._intents: List[str] = []
        self._pieces: List[int] = []  # pieces of words that the encoder computes at its start
        self._ngrams: Optional[NgramModel] = None  # also None if there is only one intent
        self._encoder: Optional[SentenceEncoder] = None
        self._vector_weights = np.zeros((0, 0), dtype=np.float32)
        self._network: Optional[Network] = None
        self._transfer: Optional[Transfer] = None
        self._tuning = Tuning()
        # In training only: the phrases, their features and vectors, and the numbers of their intents.
        self._texts: List[str] = []
        self._bags: List[Bag] = []
        self._labels = np.zeros(0, dtype=np.intp)
        self._vectors: Optional[np.ndarray] = None
        self._projection: Optional[Projection] = None
        self._components: Optional[np.ndarray] = None

    @classmethod
    def create(
        cls,
        config: Dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
    ) -> "CascadeIntentClassifier":
        """Return an untrained classifier."""
        return cls(config, model_storage, resource)

    def train(self, training_data: TrainingData) -> Resource:
        """Train on the examples that have a text and an intent, tune, and store the model. Blocks for seconds."""
        self._set_examples(training_data)
        scores: Dict[str, Any] = details(self._intents, self._labels, np.full(len(self._labels), -1), self._texts)
        if len(self._intents) > 1:
            with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(_cores()) as pool:
                self._learn(pool)
                scores = self._tune(pool)
        logger.info("Intents, cross-validated: %s; tuned to %s", _summary(scores), self._tuning)
        self._persist(scores)
        return self._resource

    def cross_validate(self, training_data: TrainingData) -> Dict[str, Any]:
        """Cross-validate, and return `inputs`, `tuning` and `cross_validated` in the form of the `measured` file."""
        self._set_examples(training_data)
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(_cores()) as pool:
            self._encode(pool)
            scores = self._cross_validated(pool)
        return {"inputs": self._inputs(), "tuning": self._tuning._asdict(), "cross_validated": scores}

    def _set_examples(self, training_data: TrainingData) -> None:
        examples = [each for each in training_data.intent_examples if each.get(TEXT)]
        self._intents = sorted({each.get(INTENT) for each in examples})
        number = {intent: at for at, intent in enumerate(self._intents)}
        self._texts, self._bags = [each.get(TEXT) for each in examples], [_bag(each) for each in examples]
        self._labels = np.array([number[each.get(INTENT)] for each in examples], dtype=np.intp)

    def _encode(self, pool: Executor) -> None:
        if not self._config["vectors"]:
            return
        file = self._config["vector_cache"]
        self._encoder = SentenceEncoder()
        self._pieces = _most_frequent(self._encoder.pieces(self._texts))
        self._encoder.prepare(self._pieces)
        kept = Path(file) if file else None
        self._vectors = cached(self._texts, self._encoder, pool, _cores(), kept)
        self._projection = Projection.of(self._vectors)
        self._components = self._projection.onto(self._vectors)

    def _learn(self, pool: Executor) -> None:
        labels, config = self._labels, self._config
        self._encode(pool)
        ngrams = pool.submit(NgramModel.fit, self._bags, labels, config["ngrams_C"])
        if self._vectors is not None:
            assert self._components is not None and self._projection is not None  # `_encode` sets all three
            network = pool.submit(Network.fit, self._components, labels, config["random_seed"])
            self._vector_weights = pool.submit(linear.fit, self._vectors, labels, config["vectors_C"]).result()
            self._network = network.result().over(self._projection)
            self._transfer = Transfer.fit(scripts(self._texts), self._vectors, labels)
        self._ngrams = ngrams.result()

    def _tune(self, pool: Executor) -> Dict[str, Any]:
        """Set the tuning and return its scores, from `measured` if that is of the same phrases, else newly found."""
        file = self._config["measured"]
        if file and Path(file).is_file():
            measured = json.loads(Path(file).read_text(encoding="utf-8"))
            if measured.get("inputs") == self._inputs():
                self._tuning = Tuning(**measured["tuning"])
                return measured["cross_validated"]
        return self._cross_validated(pool)

    def _inputs(self) -> str:
        """Return a digest of all inputs of the tuning: phrases, intents, settings, versions of the code."""
        shown = {name: self._config[name] for name in sorted(self._config) if name not in _NO_INPUTS}
        examples = zip(self._texts, self._bags, self._labels.tolist(), strict=True)
        content = [tuning.VERSION, encoder.VERSION, shown, self._intents, list(examples)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _cross_validated(self, pool: Executor) -> Dict[str, Any]:
        """Find the tuning by models that are each trained without a fifth of the phrases; return the scores."""
        config, cells = self._config, matrix(self._bags)[1]
        labels, vectors, components = self._labels, self._vectors, self._components

        def of_ngrams(learn: np.ndarray, known: np.ndarray) -> Logits:
            weights = linear.fit(cells[learn], known, config["ngrams_C"])
            return lambda rows: cells[rows] @ weights

        def of_vectors(learn: np.ndarray, known: np.ndarray) -> Logits:
            weights = linear.fit(vectors[learn], known, config["vectors_C"])  # type: ignore[index]
            return lambda rows: vectors[rows] @ weights  # type: ignore[index]

        def of_network(learn: np.ndarray, known: np.ndarray) -> Logits:
            network = Network.fit(components[learn], known, config["random_seed"])  # type: ignore[index]
            return lambda rows: network.logits(components[rows])  # type: ignore[index]

        # The slowest layers first, so that all threads end at about the same time.
        layers = (of_ngrams,) if vectors is None else (of_vectors, of_network, of_ngrams)
        *others, ngrams = cross_validated(labels, len(self._intents), config["random_seed"], layers, pool)
        outcome = tune(ngrams, others, labels, self._out_of_scope, config["ngrams_loss"], config["in_scope_lost"])
        self._tuning = outcome.tuning
        return {**(outcome.scores or {}), **details(self._intents, labels, outcome.taken, self._texts)}

    @property
    def _out_of_scope(self) -> Optional[int]:
        name = self._config["out_of_scope"]
        return self._intents.index(name) if name in self._intents else None

    def process(self, messages: List[Message]) -> List[Message]:
        """Set the intent and the ranking of all messages in one batch; return the messages."""
        if not messages or not self._intents:
            return messages
        confidences = self._confidences(messages)
        best_first = np.argsort(-confidences, axis=1, kind="stable")[:, : self._config["ranking_length"]]
        for message, order, row in zip(messages, best_first.tolist(), confidences.tolist(), strict=True):
            ranking = [{"name": self._intents[at], "confidence": row[at]} for at in order]
            if ranking[0]["confidence"] < self._tuning.least or not (message.get(TEXT) or "").strip():
                ranking.insert(0, {"name": DEFAULT_NLU_FALLBACK_INTENT_NAME, "confidence": self._tuning.least})
            message.set(INTENT, ranking[0], add_to_output=True)
            message.set(INTENT_RANKING_KEY, ranking, add_to_output=True)
        return messages

    def _confidences(self, messages: List[Message]) -> np.ndarray:
        """Return an array (messages, intents) of probabilities."""
        if self._ngrams is None:
            return np.ones((len(messages), 1))
        by_ngrams = linear.log_softmax(self._ngrams.logits([_bag(message) for message in messages]))
        found = linear.softmax(self._tuning.alone * by_ngrams)
        if self._encoder is not None:
            self._ask_vectors(found, by_ngrams, [message.get(TEXT) or "" for message in messages])
        return weigh(found, self._out_of_scope, self._tuning.odds)

    def _ask_vectors(self, found: np.ndarray, by_ngrams: np.ndarray, texts: List[str]) -> None:
        """Replace the rows of `found` where the n-gram layer is not sure by the probabilities of all layers."""
        script = scripts(texts)
        asked = found.max(axis=1) < self._tuning.sure
        if self._transfer is not None:
            asked |= self._transfer.concerns(script)
        unsure = np.flatnonzero(asked)
        if not len(unsure):
            return
        vectors = self._encoder.vectors([texts[at] for at in unsure])  # type: ignore[union-attr]
        layers = (vectors @ self._vector_weights, self._network.logits(vectors))  # type: ignore[union-attr]
        joined = self._tuning.ngrams * by_ngrams[unsure]
        for weight, logits in zip(self._tuning.vectors, layers, strict=True):
            joined += weight * linear.log_softmax(logits)
        found[unsure] = linear.softmax(joined)
        if self._transfer is not None:
            found[unsure] = self._transfer.mixed(found[unsure], script[unsure], vectors)

    def _persist(self, scores: Dict[str, Any]) -> None:
        ngrams = self._ngrams or NgramModel.of([], np.zeros((0, 0), dtype=np.float32))
        model = {
            "intents": self._intents,
            "features": list(ngrams.vocabulary),
            "pieces": self._pieces,
            "tuning": self._tuning._asdict(),
            "inputs": self._inputs(),
            "cross_validated": scores,
        }
        with self._storage.write_to(self._resource) as folder:
            layers = dict(self._network._asdict()) if self._network else {}
            layers.update(self._transfer._asdict() if self._transfer else {})
            np.savez(folder / _WEIGHTS, ngrams=ngrams.weights, vectors=self._vector_weights, **layers)
            (folder / _MODEL).write_text(json.dumps(model, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(
        cls,
        config: Dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
        **kwargs: Any,
    ) -> "CascadeIntentClassifier":
        """Return the classifier as trained; one that had nothing to learn from classifies nothing."""
        component = cls(config, model_storage, resource)
        with model_storage.read_from(resource) as folder:
            component._restore(folder)
        return component

    def _restore(self, folder: Path) -> None:
        model = json.loads((folder / _MODEL).read_text(encoding="utf-8"))
        with np.load(folder / _WEIGHTS, allow_pickle=False) as arrays:
            ngrams, self._vector_weights = arrays["ngrams"], arrays["vectors"]
            if len(self._vector_weights):
                self._network = Network(*(arrays[name] for name in Network._fields))
            if Transfer._fields[0] in arrays.files:
                self._transfer = Transfer(*(arrays[name] for name in Transfer._fields))
        self._intents = model["intents"]
        self._tuning = Tuning(**model["tuning"])
        if len(self._intents) > 1:
            self._ngrams = NgramModel.of(model["features"], ngrams)
        if len(self._vector_weights):
            self._encoder = SentenceEncoder(model["pieces"])


def _bag(message: Message) -> Bag:
    return bag([token.text for token in message.get(TOKENS_NAMES[TEXT]) or []])


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _summary(scores: Dict[str, Any]) -> Dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def _most_frequent(pieces: List[List[int]]) -> List[int]:
    return [piece for piece, _ in Counter(chain.from_iterable(pieces)).most_common(PREPARED)]
