"""Gives probabilities to intents that have training phrases in one script only, for messages in the other script.

The n-gram layer knows no Chinese n-gram of an intent without Chinese phrases, so it would predict another intent for
any Chinese message. A layer over sentence vectors predicts these intents instead. Each script's mean is subtracted from
its vectors, because the mean tells the language and not the meaning.
"""

import re
from typing import List, NamedTuple, Optional

import numpy as np

from kefu.worker.nlu import linear
from kefu.worker.nlu.text import HAN
from kefu.worker.nlu.vectors import SENTENCE

_HAN = re.compile(f"[{HAN}]")
_FEWEST = 3  # an intent with fewer phrases in a script counts as unknown in it, if it has more in the other
_STRENGTH = 10.0  # inverse strength of the layer's regularisation, see `linear.fit`


def scripts(texts: List[str]) -> np.ndarray:
    """Return each text's script: 1 for a text with a Chinese character, 0 for any other."""
    return np.array([1 if _HAN.search(text) else 0 for text in texts], dtype=np.intp)


class Transfer(NamedTuple):
    """The trained layer.

    Attributes:
        means: the mean sentence vector of each script, (2, SENTENCE).
        weights: of the layer, (SENTENCE, intents).
        unknown: whether an intent is unknown in a script, (2, intents).
    """

    means: np.ndarray
    weights: np.ndarray
    unknown: np.ndarray

    @classmethod
    def fit(cls, script: np.ndarray, vectors: np.ndarray, labels: np.ndarray) -> "Optional[Transfer]":
        """Train the layer. Returns None if no intent is unknown in a script that has phrases."""
        counts = np.array([np.bincount(labels[script == each], minlength=labels.max() + 1) for each in (0, 1)])
        unknown = (counts < _FEWEST) & (counts[::-1] > counts)
        unknown &= ~unknown.all(axis=1, keepdims=True)  # a script without known intents needs no correction
        if not unknown.any():
            return None
        sentences = vectors[:, :SENTENCE]
        shared = np.isin(labels, np.flatnonzero(~unknown.any(axis=0)))
        groups = [shared & (script == each) for each in (0, 1)]
        whole = sentences.mean(axis=0)
        means = np.array([sentences[each].mean(axis=0) if each.any() else whole for each in groups])
        weights = linear.fit(_centred(sentences, means[script]), labels, _STRENGTH)
        return cls(means.astype(np.float32), weights, unknown)

    def concerns(self, script: np.ndarray) -> np.ndarray:
        """Return for each text whether there are intents that are unknown in its script."""
        return self.unknown[script].any(axis=1)

    def mixed(self, found: np.ndarray, script: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """Return probabilities in which the layer gives the unknown intents' part, and the classifier the rest.

        Args:
            found: probabilities (texts, intents) of the classifier, which does not know the unknown intents.
            script: the script of each text.
            vectors: the sentence vector of each text.
        """
        unknown = self.unknown[script]
        own = linear.softmax(_centred(vectors[:, :SENTENCE], self.means[script]) @ self.weights)
        share = np.where(unknown, own, 0).sum(axis=1, keepdims=True)
        known = np.where(unknown, 0, found)
        known *= (1 - share) / np.maximum(known.sum(axis=1, keepdims=True), 1e-9)
        return np.where(unknown, own, known)


def _centred(sentences: np.ndarray, means: np.ndarray) -> np.ndarray:
    moved = sentences - means
    return moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), 1e-9)
