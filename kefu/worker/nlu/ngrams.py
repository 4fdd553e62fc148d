"""The cheap half of the classifier: n-grams of characters and words, one linear layer.

A message's features are looked up in a dict and their weights added, so that a poll of 64
messages is one addition over one array; no matrices of a message each.
"""

import re
from typing import Dict, Iterator, List, NamedTuple

import numpy as np

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
        from scipy.sparse import csr_matrix

        from kefu.worker.nlu.linear import fit

        known = sorted(set().union(*bags))
        model = cls.of(known, np.zeros((0, 0)))
        cells = [(row, model.vocabulary[each], len(found) ** -0.5) for row, found in enumerate(bags) for each in found]
        row, column, value = zip(*cells, strict=True)
        matrix = csr_matrix((value, (row, column)), shape=(len(bags), len(known) + 1))
        return model._replace(weights=fit(matrix, labels, strength))

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
