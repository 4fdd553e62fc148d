"""The n-gram layer of the intent classifier: a linear layer over n-grams of characters and words.

A message's features are looked up in a dict, and their rows of weights are added. A poll of 64 messages is one addition
over one array, without a matrix for each message.
"""

import re
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from kefu.worker.nlu.linear import fit

_HAN = re.compile("[\u3400-\u9fff]")
# The number of a feature whose weights are all 0. Every message has it, so that the sum over a message's features is
# never over none, if the model knows none of its n-grams.
_NOTHING = 0
Bag = List[str]


def bag(words: List[str]) -> Bag:
    """Return the features of a message with these tokens, each once, in the order of their first occurrence."""
    return list(dict.fromkeys(_features(words)))


def _features(words: List[str]) -> Iterator[str]:
    """Yield the words, pairs of words, triples that begin with a Chinese character, and pieces of words.

    A number becomes its count of digits (an order number of eight digits is `#8`).
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
    """Yield the word's runs of three and four letters. Most stay the same with another ending or a typing error."""
    for size in (3, 4):
        for start in range(len(word) - size + 1):
            yield "~" + word[start : start + size]


def matrix(bags: List[Bag]) -> Tuple[List[str], Any]:
    """Return the sorted features of all messages, and the CSR matrix (messages, features + 1) of their values."""
    from scipy.sparse import csr_matrix

    features = sorted(set().union(*bags))
    place = {feature: at for at, feature in enumerate(features, start=_NOTHING + 1)}
    columns = np.fromiter((place[each] for found in bags for each in found), dtype=np.int32)
    lengths = np.array([len(found) for found in bags])
    values = np.repeat(np.maximum(lengths, 1) ** -0.5, lengths).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return features, csr_matrix((values, columns, starts), shape=(len(bags), len(features) + 1))


class NgramModel(NamedTuple):
    """A trained layer: `vocabulary` has each feature's row in `weights`, (features + 1, intents)."""

    vocabulary: Dict[str, int]
    weights: np.ndarray

    @classmethod
    def of(cls, features: List[str], weights: np.ndarray) -> "NgramModel":
        """Return a model of these features, in the order of the weights' rows from 1 on."""
        return cls({feature: at for at, feature in enumerate(features, start=_NOTHING + 1)}, weights)

    @classmethod
    def fit(cls, bags: List[Bag], labels: np.ndarray, strength: float) -> "NgramModel":
        """Train the layer. Blocks for seconds.

        The layer has no bias, so a message without known features gives all intents the same logit.

        Args:
            bags: the features of each message.
            labels: the number of each message's intent, 0 to n-1, each at least once.
            strength: see `linear.fit`.
        """
        features, cells = matrix(bags)
        return cls.of(features, fit(cells, labels, strength))

    def logits(self, bags: List[Bag]) -> np.ndarray:
        """Return the logits, an array (messages, intents).

        Unknown features weigh nothing, but they count in the length that the sum is divided by. So the more of a
        message is unknown, the less certain its intent.
        """
        get = self.vocabulary.get
        known = [[_NOTHING, *(get(feature, _NOTHING) for feature in found)] for found in bags]
        starts = np.cumsum([0] + [len(each) for each in known[:-1]])
        flat = np.fromiter((at for each in known for at in each), dtype=np.intp)
        scale = np.array([max(len(found), 1) ** -0.5 for found in bags], dtype=np.float32)
        return np.add.reduceat(self.weights[flat], starts, axis=0) * scale[:, None]
