"""The intent classifier: n-grams of characters and words, one linear layer, nothing else.

A message's features are looked up in a dict and their weights added, so that a poll of 64
messages is one addition over one array; no TensorFlow, no matrices of a message each.
"""

import json
import re
from typing import Any, Dict, Iterator, List

import numpy as np
from rasa.engine.graph import ExecutionContext, GraphComponent
from rasa.engine.recipes.default_recipe import DefaultV1Recipe
from rasa.engine.storage.resource import Resource
from rasa.engine.storage.storage import ModelStorage
from rasa.nlu.classifiers.classifier import IntentClassifier
from rasa.nlu.constants import TOKENS_NAMES
from rasa.nlu.tokenizers.tokenizer import Tokenizer
from rasa.shared.nlu.constants import INTENT, INTENT_RANKING_KEY, TEXT
from rasa.shared.nlu.training_data.message import Message
from rasa.shared.nlu.training_data.training_data import TrainingData

_HAN = re.compile("[\u3400-\u9fff]")
_NOTHING = 0  # a feature that weighs nothing, so that a message without known ones has one too


def features(words: List[str]) -> Iterator[str]:
    """Yield the features of a message: its words, pairs, triples of characters, and pieces.

    Digits become their count (an order number is `#8`), repeated signs and words count once.
    """
    plain = [f"#{min(len(word), 12)}" if word.isdigit() else word.lower() for word in words]
    padded = ["^", *plain, "$"]
    yield from plain
    for at, word in enumerate(padded[:-1]):
        yield f"{word} {padded[at + 1]}"
        if _HAN.match(word) and at + 2 < len(padded):
            yield f"{word} {padded[at + 1]} {padded[at + 2]}"
        elif len(word) > 2 and word.isalpha():
            yield from _pieces(f"<{word}>")


def _pieces(word: str) -> Iterator[str]:
    """Yield runs of three and four letters: they forgive typing errors and endings."""
    for size in (3, 4):
        for start in range(len(word) - size + 1):
            yield "~" + word[start : start + size]


@DefaultV1Recipe.register(DefaultV1Recipe.ComponentType.INTENT_CLASSIFIER, is_trainable=True)
class NgramIntentClassifier(IntentClassifier, GraphComponent):
    """Multinomial logistic regression over the features above, trained by scikit-learn."""

    @classmethod
    def required_components(cls) -> List[type]:
        """Return what has to stand before this one: tokens come from a tokenizer."""
        return [Tokenizer]

    @staticmethod
    def required_packages() -> List[str]:
        """Return the packages needed to train."""
        return ["sklearn"]

    @staticmethod
    def get_default_config() -> Dict[str, Any]:
        """Return `C`, the inverse strength of regularisation, and how many intents to rank."""
        return {"C": 30.0, "ranking_length": 5}

    def __init__(self, config: Dict[str, Any], storage: ModelStorage, resource: Resource) -> None:
        """Build an untrained classifier."""
        self._config = config
        self._storage = storage
        self._resource = resource
        self._vocabulary: Dict[str, int] = {}
        self._intents: List[str] = []
        self._weights = np.zeros((1, 0), dtype=np.float32)

    @classmethod
    def create(
        cls,
        config: Dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
    ) -> "NgramIntentClassifier":
        """Return an untrained classifier."""
        return cls(config, model_storage, resource)

    def train(self, training_data: TrainingData) -> Resource:
        """Learn from the examples that have a text and an intent, and store the weights."""
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import LogisticRegression

        examples = [each for each in training_data.intent_examples if each.get(TEXT)]
        if not examples:
            return self._resource
        bags = [self._bag(example) for example in examples]
        known = sorted(set().union(*bags))
        self._vocabulary = {feature: index for index, feature in enumerate(known, start=_NOTHING + 1)}
        rows = [(row, self._vocabulary[feature], len(bag) ** -0.5) for row, bag in enumerate(bags) for feature in bag]
        row, column, value = zip(*rows, strict=True)
        shape = (len(examples), len(known) + 1)
        model = LogisticRegression(
            C=self._config["C"],
            class_weight="balanced",
            fit_intercept=False,  # a message of which nothing is known has no intent
            max_iter=500,
            multi_class="multinomial",
        )
        model.fit(csr_matrix((value, (row, column)), shape=shape), [each.get(INTENT) for each in examples])
        self._intents = list(model.classes_)
        self._weights = model.coef_.T.astype(np.float32)
        self._persist()
        return self._resource

    def process(self, messages: List[Message]) -> List[Message]:
        """Set the intent and the ranking of every message, in one go; returns the messages."""
        if not messages or not self._intents:
            return messages
        confidences = self._confidences([self._bag(message) for message in messages])
        best_first = np.argsort(-confidences, axis=1)[:, : self._config["ranking_length"]]
        for message, order, row in zip(messages, best_first.tolist(), confidences.tolist(), strict=True):
            ranking = [{"name": self._intents[at], "confidence": row[at]} for at in order]
            message.set(INTENT, ranking[0], add_to_output=True)
            message.set(INTENT_RANKING_KEY, ranking, add_to_output=True)
        return messages

    @staticmethod
    def _bag(message: Message) -> List[str]:
        return list(dict.fromkeys(features([token.text for token in message.get(TOKENS_NAMES[TEXT]) or []])))

    def _confidences(self, bags: List[List[str]]) -> "np.ndarray":
        """Return an array (messages, intents) of probabilities.

        Features never seen weigh nothing but count in the length: the stranger a message, the
        less certain its intent.
        """
        get = self._vocabulary.get
        known = [[_NOTHING, *(get(feature, _NOTHING) for feature in bag)] for bag in bags]
        starts = np.cumsum([0] + [len(each) for each in known[:-1]])
        flat = np.fromiter((at for each in known for at in each), dtype=np.intp)
        scale = np.array([max(len(bag), 1) ** -0.5 for bag in bags], dtype=np.float32)
        logits = np.add.reduceat(self._weights[flat], starts, axis=0) * scale[:, None]
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def _persist(self) -> None:
        with self._storage.write_to(self._resource) as folder:
            np.savez(folder / "weights.npz", weights=self._weights)
            words = json.dumps([list(self._vocabulary), self._intents], ensure_ascii=False)
            (folder / "vocabulary.json").write_text(words, encoding="utf-8")

    @classmethod
    def load(
        cls,
        config: Dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
        **kwargs: Any,
    ) -> "NgramIntentClassifier":
        """Return the classifier as trained; one that never was trained classifies nothing."""
        component = cls(config, model_storage, resource)
        with model_storage.read_from(resource) as folder:
            with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
                component._weights = arrays["weights"]
            known, component._intents = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        component._vocabulary = {feature: at for at, feature in enumerate(known, start=_NOTHING + 1)}
        return component
