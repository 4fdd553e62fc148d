"""The intent classifier: n-grams decide what they are sure of, sentence vectors help with the rest.

N-grams have a linear layer, the vectors a linear one and a small network. How they are joined, and
where out of scope begins, is tuned in training (see `tuning`). Nothing here needs TensorFlow.
"""

import json
import logging
from collections import Counter
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

from kefu.worker.nlu import linear
from kefu.worker.nlu.network import Network
from kefu.worker.nlu.ngrams import Bag, NgramModel, bag
from kefu.worker.nlu.scores import details
from kefu.worker.nlu.transfer import Transfer, scripts
from kefu.worker.nlu.tuning import Logits, Outcome, Tuning, cross_validated, tune, weigh
from kefu.worker.nlu.vectors import PREPARED, SentenceEncoder

logger = logging.getLogger(__name__)

_MODEL = "model.json"
_WEIGHTS = "weights.npz"


@DefaultV1Recipe.register(DefaultV1Recipe.ComponentType.INTENT_CLASSIFIER, is_trainable=True)
class CascadeIntentClassifier(IntentClassifier, GraphComponent):
    """Gives an intent with a calibrated confidence, `nlu_fallback` where that is too low."""

    @classmethod
    def required_components(cls) -> List[type]:
        """Return what has to stand before this one: tokens come from a tokenizer."""
        return [Tokenizer]

    @staticmethod
    def required_packages() -> List[str]:
        """Return the packages needed to train."""
        return ["sklearn", "sentencepiece"]

    @staticmethod
    def get_default_config() -> Dict[str, Any]:
        """Return the settings, see the comments."""
        return {
            "vectors": True,  # False: n-grams alone, 0.05 ms a message and 110 MB less
            "ngrams_C": 30.0,  # inverse strength of regularisation of each linear layer
            "vectors_C": 100.0,
            "out_of_scope": "out_of_scope",  # the intent that is to catch what is none of the others
            "ngrams_loss": 0.002,  # share of messages that may go wrong for n-grams deciding alone
            "in_scope_lost": 0.025,  # share of messages in scope that may be refused, see `tuning`
            "ranking_length": 5,
            "random_seed": 42,
        }

    def __init__(self, config: Dict[str, Any], storage: ModelStorage, resource: Resource) -> None:
        """Build an untrained classifier."""
        self._config = config
        self._storage = storage
        self._resource = resource
        self._intents: List[str] = []
        self._pieces: List[int] = []  # of words, that the encoder prepares
        self._ngrams: Optional[NgramModel] = None  # None too where there is but one intent to choose from
        self._encoder: Optional[SentenceEncoder] = None
        self._vector_weights = np.zeros((0, 0), dtype=np.float32)
        self._network: Optional[Network] = None
        self._transfer: Optional[Transfer] = None
        self._tuning = Tuning()

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
        """Learn from the examples that have a text and an intent, tune, and store. Blocks for a minute or more."""
        examples = [each for each in training_data.intent_examples if each.get(TEXT)]
        self._intents = sorted({each.get(INTENT) for each in examples})
        number = {intent: at for at, intent in enumerate(self._intents)}
        texts = [each.get(TEXT) for each in examples]
        labels = np.array([number[each.get(INTENT)] for each in examples], dtype=np.intp)
        outcome = Outcome(Tuning(), None, np.full(len(labels), -1))
        if len(self._intents) > 1:
            outcome = self._learn(texts, [_bag(each) for each in examples], labels)
        self._tuning = outcome.tuning
        logger.info("Intents, cross-validated: %s; tuned to %s", outcome.scores, self._tuning)
        self._persist({**(outcome.scores or {}), **details(self._intents, labels, outcome.taken, texts)})
        return self._resource

    def _learn(self, texts: List[str], bags: List[Bag], labels: np.ndarray) -> Outcome:
        vectors = None
        if self._config["vectors"]:
            self._pieces = _most_frequent(SentenceEncoder().pieces(texts))
            self._encoder = SentenceEncoder(self._pieces)
            vectors = self._encoder.vectors(texts)
            self._vector_weights = linear.fit(vectors, labels, self._config["vectors_C"])
            self._network = Network.fit(vectors, labels, self._config["random_seed"])
            self._transfer = Transfer.fit(scripts(texts), vectors, labels)
        self._ngrams = NgramModel.fit(bags, labels, self._config["ngrams_C"])
        return self._tuned(bags, vectors, labels)

    def _tuned(self, bags: List[Bag], vectors: Optional[np.ndarray], labels: np.ndarray) -> Outcome:
        """Return the tuning for what these phrases are, by models trained without a fifth of them at a time."""
        config, size = self._config, len(self._intents)

        def of_ngrams(learn: np.ndarray, known: np.ndarray) -> Logits:
            model = NgramModel.fit([bags[row] for row in learn], known, config["ngrams_C"])
            return lambda rows: model.logits([bags[row] for row in rows])

        def of_vectors(learn: np.ndarray, known: np.ndarray) -> Logits:
            weights = linear.fit(vectors[learn], known, config["vectors_C"])  # type: ignore[index]
            return lambda rows: vectors[rows] @ weights  # type: ignore[index]

        def of_network(learn: np.ndarray, known: np.ndarray) -> Logits:
            network = Network.fit(vectors[learn], known, config["random_seed"])  # type: ignore[index]
            return lambda rows: network.logits(vectors[rows])  # type: ignore[index]

        layers = (of_ngrams,) if vectors is None else (of_ngrams, of_vectors, of_network)
        found = [cross_validated(labels, size, config["random_seed"], layer) for layer in layers]
        return tune(found[0], found[1:], labels, self._out_of_scope, config["ngrams_loss"], config["in_scope_lost"])

    @property
    def _out_of_scope(self) -> Optional[int]:
        name = self._config["out_of_scope"]
        return self._intents.index(name) if name in self._intents else None

    def process(self, messages: List[Message]) -> List[Message]:
        """Set the intent and the ranking of every message, in one go; returns the messages."""
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
        """Put into `found` what n-grams and vectors say together, where n-grams alone are not sure."""
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


def _most_frequent(pieces: List[List[int]]) -> List[int]:
    return [piece for piece, _ in Counter(chain.from_iterable(pieces)).most_common(PREPARED)]
