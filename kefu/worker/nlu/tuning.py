"""What the classifier decides by, found by cross-validation on the training data alone.

In: what both halves say of phrases that they were not trained on. Out: how far to trust each,
when the cheap one alone is enough, and where out of scope and "say it again" begin.
"""

from concurrent.futures import Executor
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from kefu.worker.nlu.linear import log_softmax, softmax

VERSION = 1  # of how models learn and are tuned: raise it with whatever changes the outcome for the same phrases
FOLDS = 5
_MANY = 10_000  # phrases, from which one fold is enough to try, and training five times too slow
_FEWEST = 60  # phrases tried, below which their shares say nothing
_UNKNOWN = -20.0  # logarithm of the probability of an intent that a fold never saw
_BINS = 10
_MOST_ODDS = 50.0


Logits = Callable[[np.ndarray], np.ndarray]  # from rows to (rows, labels)
Fit = Callable[[np.ndarray, np.ndarray], Logits]  # from rows to learn from and their labels


class Tuning(NamedTuple):
    """Attributes as stored with the model.

    Attributes:
        alone: what the n-grams' logits are multiplied with where they decide alone.
        ngrams: what the n-grams' logarithms are multiplied with before they are added to those of the vectors.
        vectors: the same for each of the layers over vectors.
        sure: probability from which the n-grams decide alone; above 1, never.
        odds: what the odds of out of scope are multiplied with.
        least: probability below which the likeliest intent is not taken.
    """

    alone: float = 1.0
    ngrams: float = 0.5
    vectors: Tuple[float, ...] = (0.5, 0.5)
    sure: float = 0.9
    odds: float = 1.0
    least: float = 0.25


class Outcome(NamedTuple):
    """What cross-validation found.

    Attributes:
        tuning: the tuning.
        scores: what it gives; None where there were too few phrases.
        taken: the intent's number that each phrase was taken for, -1 for one that could not be tried.
    """

    tuning: Tuning
    scores: Optional[Dict[str, float]]
    taken: np.ndarray


def cross_validated(
    labels: np.ndarray, intents: int, seed: int, layers: Sequence[Fit], pool: Executor
) -> List[np.ndarray]:
    """Return a layer's log-probabilities (phrases, intents), each row from a model without that phrase, for each layer.

    Args:
        labels: the intent's number of each phrase.
        intents: how many there are.
        seed: of the folds.
        layers: each given rows to learn from and a label for each, 0 to n-1 of the intents that are among them.
        pool: where the folds are learnt, as many at once as it has threads.
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
    """Return each phrase's fold: those of an intent are dealt out evenly, at random."""
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
    """Find the tuning.

    Args:
        ngrams: log-probabilities (phrases, intents) by n-grams.
        vectors: the same by each layer over vectors; none for a classifier without them.
        labels: the intent's number of each phrase.
        out_of_scope: that intent's number, None where there is none.
        loss: share of phrases that may go wrong because the n-grams decided alone.
        lost: share of phrases in scope that may be taken for out of scope or not understood.
    """
    tried = ngrams[np.arange(len(labels)), labels] > _UNKNOWN  # an intent's only phrase says nothing
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
    """Return the probabilities after the odds of out of scope are multiplied with `odds`."""
    if out_of_scope is None or odds == 1:
        return probabilities
    weighed = probabilities.copy()
    weighed[:, out_of_scope] *= odds
    return weighed / weighed.sum(axis=1, keepdims=True)


def scores(weighed: np.ndarray, labels: np.ndarray, out_of_scope: Optional[int], tuning: Tuning) -> Dict[str, float]:
    """Return accuracy, calibration error, and what was caught and lost, as shares."""
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
    """Return the expected calibration error: how far confidence is from accuracy, over ten bins of confidence."""
    bins = np.minimum((confidences * _BINS).astype(int), _BINS - 1)
    gaps = [abs(confidences[bins == each].sum() - right[bins == each].sum()) for each in range(_BINS)]
    return float(sum(gaps) / len(confidences))


def _added(by: np.ndarray, halves: Sequence[np.ndarray]) -> np.ndarray:
    return np.add.reduce([weight * half for weight, half in zip(by, halves, strict=True)])


def _best(logits: Callable[[Any], np.ndarray], labels: np.ndarray, start: "list[float]") -> np.ndarray:
    """Return the multipliers under which what is true is likeliest."""
    from scipy.optimize import minimize

    rows = np.arange(len(labels))

    def surprise(by: np.ndarray) -> float:
        return -float(log_softmax(logits(np.abs(by)))[rows, labels].mean())

    return np.abs(minimize(surprise, start, method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-5}).x)


def _sure(alone: np.ndarray, joined: np.ndarray, labels: np.ndarray, loss: float) -> float:
    """Return the least probability from which the n-grams may decide."""
    right, right_joined = alone.argmax(axis=1) == labels, joined.argmax(axis=1) == labels
    confidence = alone.max(axis=1)
    for sure in np.arange(0.30, 1.0, 0.01):
        decided = confidence >= sure
        if np.where(decided, right, right_joined).mean() >= right_joined.mean() - loss:
            return float(round(sure, 2))
    return 1.01


def _odds(probabilities: np.ndarray, labels: np.ndarray, out_of_scope: Optional[int], lost: float) -> float:
    """Return the greatest multiplier that takes no more than `lost` of what is in scope for out of scope."""
    if out_of_scope is None:
        return 1.0
    inside = probabilities[labels != out_of_scope]
    others = np.delete(inside, out_of_scope, axis=1).max(axis=1)
    return float(np.clip(np.quantile(others / inside[:, out_of_scope].clip(1e-12), lost), 1.0, _MOST_ODDS))


def _least(weighed: np.ndarray, labels: np.ndarray, out_of_scope: Optional[int], lost: float) -> float:
    """Return the probability below which, with what is taken for out of scope, `lost` of what is in scope are."""
    inside = np.ones(len(labels), dtype=bool) if out_of_scope is None else labels != out_of_scope
    confidence = weighed[inside].max(axis=1)
    if out_of_scope is not None:
        confidence = np.where(weighed[inside].argmax(axis=1) == out_of_scope, 0.0, confidence)
    return float(np.quantile(confidence, lost))
