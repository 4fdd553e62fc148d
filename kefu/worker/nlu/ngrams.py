"""The cheap half of the classifier: n-grams of characters and words, one linear layer.

A message's features are looked up in a dict and their weights added, so that a poll of 64
messages is one addition over one array; no matrices of a message each.
"""

import re
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

import numpy as np

from kefu.worker.nlu.linear import fit

_HAN = re.compile("[\u3400-\u9fff]")
_NOTHING = 0  # a feature that weighs nothing, so that a message without known ones has one too
Bag = List[str]


def bag(words: List[str]) -> Bag:
    """Return the features of a message, given its tokens: each once, in the order found."""
    return list(dict.fromkeys(_features(words)))


def _features(words: List[str]) -> Iterator[str]:
    """Yield words, pairs, triples of characters, and pieces of words.

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


def matrix(bags: List[Bag]) -> Tuple[List[str], Any]:
    """Return the features, and a CSR matrix (messages, features + 1) of what `NgramModel.fit` learns from."""
    from scipy.sparse import csr_matrix

    features = sorted(set().union(*bags))
    place = {feature: at for at, feature in enumerate(features, start=_NOTHING + 1)}
    columns = np.fromiter((place[each] for found in bags for each in found), dtype=np.int32)
    lengths = np.array([len(found) for found in bags])
    values = np.repeat(np.maximum(lengths, 1) ** -0.5, lengths).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return features, csr_matrix((values, columns, starts), shape=(len(bags), len(features) + 1))


class NgramModel(NamedTuple):
    """A trained layer: features in the order of the rows of `weights` (features + 1, intents)."""

    vocabulary: Dict[str, int]
    weights: np.ndarray

    @classmethod
    def of(cls, features: List[str], weights: np.ndarray) -> "NgramModel":
        """Return a model from what was stored of it."""
        return cls({feature: at for at, feature in enumerate(features, start=_NOTHING + 1)}, weights)

    @classmethod
    def fit(cls, bags: List[Bag], labels: np.ndarray, strength: float) -> "NgramModel":
        """Learn; `labels` are the intents' numbers, each of them there. Blocks for seconds.

        A message of which nothing is known has no intent: there is no bias.
        """
        features, cells = matrix(bags)
        return cls.of(features, fit(cells, labels, strength))

    def logits(self, bags: List[Bag]) -> np.ndarray:
        """Return an array (messages, intents).

        Features never seen weigh nothing but count in the length: the stranger a message, the
        less certain its intent.
        """
        get = self.vocabulary.get
        known = [[_NOTHING, *(get(feature, _NOTHING) for feature in found)] for found in bags]
        starts = np.cumsum([0] + [len(each) for each in known[:-1]])
        flat = np.fromiter((at for each in known for at in each), dtype=np.intp)
        scale = np.array([max(len(found), 1) ** -0.5 for found in bags], dtype=np.float32)
        return np.add.reduceat(self.weights[flat], starts, axis=0) * scale[:, None]
