"""Counts right predictions by intent and language, for the report of a training and the model card.

In: the true intent of each phrase, and the intent predicted by a model that was not trained on it. Out: counts.
"""

from collections import Counter
from typing import Any, Dict, List

import numpy as np

from kefu.worker.nlu.language import detect

OTHER = "other"  # the text is neither Chinese nor English, or has no language: digits, emoji
_PAIRS = 20  # confusions listed


def languages(texts: List[str]) -> List[str]:
    """Return the language of each text, by the rule that also gives a conversation its language."""
    found = [detect(text) for text in texts]
    return [each.value if each else OTHER for each in found]


def details(intents: List[str], labels: np.ndarray, taken: np.ndarray, texts: List[str]) -> Dict[str, Any]:
    """Return `by_intent`, {intent: {language: [right, tried]}}, and `confusions`, the most frequent first.

    Args:
        intents: the names of the intents.
        labels: the number of each phrase's intent.
        taken: the number of each phrase's predicted intent; -1 for a phrase that was not tried.
        texts: the phrases.
    """
    found: Dict[str, Dict[str, List[int]]] = {intent: {} for intent in intents}
    for label, guess, language in zip(labels.tolist(), taken.tolist(), languages(texts), strict=True):
        counts = found[intents[label]].setdefault(language, [0, 0])
        counts[0] += label == guess
        counts[1] += guess >= 0
    return {"by_intent": found, "confusions": _confusions(intents, labels, taken)}


def _confusions(intents: List[str], labels: np.ndarray, taken: np.ndarray) -> List[Any]:
    """Return lists [true intent, predicted intent, number of phrases], the most frequent first."""
    pairs = zip(labels.tolist(), taken.tolist(), strict=True)
    wrong = Counter((label, guess) for label, guess in pairs if label != guess and guess >= 0)
    return [[intents[label], intents[guess], count] for (label, guess), count in wrong.most_common(_PAIRS)]
