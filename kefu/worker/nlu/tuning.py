"""Finds the weights and thresholds of the intent classifier by cross-validation on the training data.

In: each layer's log-probabilities for phrases that it was not trained on. Out: the weight of each layer, the
probability from which the n-gram layer decides alone, and the thresholds of `out_of_scope` and `nlu_fallback`.
"""

from concurrent.futures import Executor
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from kefu.worker.nlu.linear import log_softmax, softmax

VERSION = 2  # part of the digest of a tuning's inputs: raise it if a change of the code changes the tuning
FOLDS = 5
_MANY = 10_000  # from so many phrases on, one fold is tried instead of five, which would take five times as long
_FEWEST = 60  # below so many tried phrases a share is too uncertain, so the default tuning is kept
_UNKNOWN = -20.0  # log-probability given to an intent that has no phrase in the fold's training part
_BINS = 10  # of confidence, for the calibration error
_MOST_ODDS = 50.0  # limits the multiplier of `out_of_scope`; beyond it few phrases in scope would be left


Logits = Callable[[np.ndarray], np.ndarray]  # from rows to (rows, labels)
Fit = Callable[[np.ndarray, np.ndarray], Logits]  # from rows to learn from and their labels


class Tuning(NamedTuple):
    """The weights and thresholds of a classifier, stored with its model.

    Attributes:
        alone: factor of the n-gram layer's logits where this layer decides alone.
        ngrams: weight of the n-gram layer's log-probabilities in the sum with those of the vectors' layers.
        vectors: the same weight for each layer over sentence vectors.
        sure: probability of the likeliest intent from which the n-gram layer decides alone; above 1, it never does.
        odds: factor of the odds of `out_of_scope`.
        least: probability below which the likeliest intent is replaced by `nlu_fallback`.
    """

    alone: float = 1.0
    ngrams: float = 0.5
    vectors: Tuple[float, ...] = (0.5, 0.5)
    sure: float = 0.9
    odds: float = 1.0
    least: float = 0.25


class Outcome(NamedTuple):
    """A tuning, and how right the classifier is with it on phrases that it was not trained on.

    Attributes:
        tuning: the tuning.
        scores: accuracy and other shares by name, see `scores`; None if there were too few phrases.
        taken: for each phrase the number of the predicted intent; -1 for a phrase that could not be tried.
    """

    tuning: Tuning
    scores: Optional[Dict[str, float]]
    taken: np.ndarray


def cross_validated(
    labels: np.ndarray, intents: int, seed: int, layers: Sequence[Fit], pool: Executor
) -> List[np.ndarray]:
    """Return a layer's log-probabilities (phrases, intents), each row from a model without that phrase, for each layer.

    Args:
        labels: the number of each phrase's intent.
        intents: the number of intents.
        seed: seed of the random folds.
        layers: functions that train a layer, from the rows to learn from and their labels 0 to n-1, and return a
            function from rows to logits.
        pool: trains as many folds at a time as it has threads.
    """
    fold = folds(labels, seed)
    numbers = range(FOLDS if len(labels) < _MANY else 1)
    found = [np.full((len(labels), intents), _UNKNOWN) for _ in layers]

    def learn(task: Tuple[np.ndarray, Fit, int]) -> None:
        into, fit, number = task
        rows, try_out = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        known, numbered = np.unique(labels[rows], return_inverse=True)
        if len(known) > 1 and len(try_out):
            into[np.ix_(try_out, known)] = log_softmax(fit(rows, numbered)(try_out))

    tasks = [(into, fit, number) for into, fit in zip(found, layers, strict=True) for number in numbers]
    list(pool.map(learn, tasks))
    return found


def folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the number of each phrase's fold. The phrases of an intent are spread evenly over the folds, at random."""
    random = np.random.default_rng(seed)
    fold = np.empty(len(labels), dtype=np.intp)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        fold[rows] = (np.arange(len(rows)) + random.integers(FOLDS)) % FOLDS
    return fold


def tune(
    ngrams: np.ndarray,
    vectors: Sequence[np.ndarray],
    labels: np.ndarray,
    out_of_scope: Optional[int],
    loss: float,
    lost: float,
) -> Outcome:
    """Return the tuning that makes the true intents likeliest, within two limits on wrong decisions.

    Args:
        ngrams: log-probabilities (phrases, intents) of the n-gram layer.
        vectors: the same of each layer over sentence vectors; empty for a classifier without vectors.
        labels: the number of each phrase's intent.
        out_of_scope: the number of the intent `out_of_scope`; None if there is none.
        loss: the accuracy that may be lost because the n-gram layer decides alone.
        lost: limits the share of phrases in scope that are predicted as `out_of_scope` or `nlu_fallback`.
    """
    tried = (
        ngrams[np.arange(len(labels)), labels] > _UNKNOWN
    )  # an intent's only phrase can't be tried: its fold has none to learn from
    if tried.sum() < _FEWEST:
        return Outcome(Tuning() if vectors else Tuning(sure=0.0, vectors=()), None, np.full(len(labels), -1))
    ngrams, labels = ngrams[tried], labels[tried]
    alone = float(_best(lambda by: by[0] * ngrams, labels, [1.0])[0])
    probabilities = softmax(alone * ngrams)
    tuning = Tuning(alone=alone, sure=0.0, vectors=())
    decided = np.ones(len(labels), dtype=bool)
    if vectors:
        halves = [ngrams, *(each[tried] for each in vectors)]
        by = _best(lambda by: _added(by, halves), labels, [0.5] * len(halves))
        joined = softmax(_added(by, halves))
        sure = _sure(probabilities, joined, labels, loss)
        decided = probabilities.max(axis=1) >= sure
        probabilities = np.where(decided[:, None], probabilities, joined)
        tuning = Tuning(alone, float(by[0]), tuple(map(float, by[1:])), sure)
    tuning = tuning._replace(odds=_odds(probabilities, labels, out_of_scope, lost * 2 / 3))
    weighed = weigh(probabilities, out_of_scope, tuning.odds)
    tuning = tuning._replace(least=_least(weighed, labels, out_of_scope, lost))
    found = scores(weighed, labels, out_of_scope, tuning)
    taken = np.full(len(tried), -1)
    taken[tried] = weighed.argmax(axis=1)
    return Outcome(tuning, {**found, "decided_by_ngrams": float(decided.mean())}, taken)


def weigh(probabilities: np.ndarray, out_of_scope: Optional[int], odds: float) -> np.ndarray:
    """Return the probabilities (phrases, intents) with the odds of `out_of_scope` multiplied by `odds`."""
    if out_of_scope is None or odds == 1:
        return probabilities
    weighed = probabilities.copy()
    weighed[:, out_of_scope] *= odds
    return weighed / weighed.sum(axis=1, keepdims=True)


def scores(weighed: np.ndarray, labels: np.ndarray, out_of_scope: Optional[int], tuning: Tuning) -> Dict[str, float]:
    """Return shares by name: accuracy, calibration error, `in_scope_lost` and `out_of_scope_caught`."""
    best = weighed.argmax(axis=1)
    refused = (weighed.max(axis=1) < tuning.least) | (best == (-1 if out_of_scope is None else out_of_scope))
    outside = labels == (-1 if out_of_scope is None else out_of_scope)
    found = {
        "accuracy": float((best == labels).mean()),
        "calibration_error": calibration_error(weighed.max(axis=1), best == labels),
        "in_scope_lost": float(refused[~outside].mean()) if (~outside).any() else 0.0,
    }
    return {**found, "out_of_scope_caught": float(refused[outside].mean())} if outside.any() else found


def calibration_error(confidences: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error: the mean distance of confidence from accuracy, over ten bins."""
    bins = np.minimum((confidences * _BINS).astype(int), _BINS - 1)
    gaps = [abs(confidences[bins == each].sum() - right[bins == each].sum()) for each in range(_BINS)]
    return float(sum(gaps) / len(confidences))


def _added(by: np.ndarray, halves: Sequence[np.ndarray]) -> np.ndarray:
    return np.add.reduce([weight * half for weight, half in zip(by, halves, strict=True)])


def _best(logits: Callable[[Any], np.ndarray], labels: np.ndarray, start: "list[float]") -> np.ndarray:
    """Return the factors under which the true labels are likeliest, found by the Nelder-Mead method from `start`."""
    from scipy.optimize import minimize

    rows = np.arange(len(labels))

    def surprise(by: np.ndarray) -> float:
        return -float(log_softmax(logits(np.abs(by)))[rows, labels].mean())

    return np.abs(minimize(surprise, start, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-5}).x)


def _sure(alone: np.ndarray, joined: np.ndarray, labels: np.ndarray, loss: float) -> float:
    """Return the least probability from which the n-gram layer may decide alone without losing more than `loss`."""
    right, right_joined = alone.argmax(axis=1) == labels, joined.argmax(axis=1) == labels
    confidence = alone.max(axis=1)
    for sure in np.arange(0.30, 1.0, 0.01):
        decided = confidence >= sure
        if np.where(decided, right, right_joined).mean() >= right_joined.mean() - loss:
            return float(round(sure, 2))
    return 1.01


def _odds(probabilities: np.ndarray, labels: np.ndarray, out_of_scope: Optional[int], lost: float) -> float:
    """Return the greatest factor by which at most a share `lost` of phrases in scope is predicted as out of scope."""
    if out_of_scope is None:
        return 1.0
    inside = probabilities[labels != out_of_scope]
    others = np.delete(inside, out_of_scope, axis=1).max(axis=1)
    return float(np.clip(np.quantile(others / inside[:, out_of_scope].clip(1e-12), lost), 1.0, _MOST_ODDS))


def _least(weighed: np.ndarray, labels: np.ndarray, out_of_scope: Optional[int], lost: float) -> float:
    """Return the threshold of `nlu_fallback`: with it, a share `lost` of the phrases in scope is refused.

    Phrases that are predicted as out of scope count among the refused ones.
    """
    inside = np.ones(len(labels), dtype=bool) if out_of_scope is None else labels != out_of_scope
    confidence = weighed[inside].max(axis=1)
    if out_of_scope is not None:
        confidence = np.where(weighed[inside].argmax(axis=1) == out_of_scope, 0.0, confidence)
    return float(np.quantile(confidence, lost))
