"""Intents that have phrases in one script only: understood in the other by what sentences mean.

Chinese n-grams know only the intents that have Chinese phrases, and would give any Chinese message
to one of these. So a layer over sentence vectors alone, each script's vectors around their own mean
(what they share is the language, not the meaning), says how likely the others are.
"""

import re
from typing import List, NamedTuple, Optional

import numpy as np

from kefu.worker.nlu import linear
from kefu.worker.nlu.text import HAN
from kefu.worker.nlu.vectors import SENTENCE

_HAN = re.compile(f"[{HAN}]")
_FEWEST = 3  # phrases of a script from which an intent is known in it, even if it has more in the other
_STRENGTH = 10.0


def scripts(texts: List[str]) -> np.ndarray:
    """Return each text's script: 1 with Chinese characters in it, else 0."""
    return np.array([1 if _HAN.search(text) else 0 for text in texts], dtype=np.intp)


class Transfer(NamedTuple):
    """The scripts' means (2, SENTENCE), the layer (SENTENCE, intents), the intents unknown in each (2, intents)."""

    means: np.ndarray
    weights: np.ndarray
    unknown: np.ndarray

    @classmethod
    def fit(cls, script: np.ndarray, vectors: np.ndarray, labels: np.ndarray) -> "Optional[Transfer]":
        """Learn; None where every script that has phrases has some of every intent."""
        counts = np.array([np.bincount(labels[script == each], minlength=labels.max() + 1) for each in (0, 1)])
        unknown = (counts < _FEWEST) & (counts[::-1] > counts)
        unknown &= ~unknown.all(axis=1, keepdims=True)  # where none is known, nothing draws phrases to the others
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
        """Return the probabilities with what the unknown intents' share is, by the vectors alone.

        Args:
            found: probabilities (texts, intents) of a classifier that knows nothing of the unknown ones.
            script: of each text.
            vectors: of each text.
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
