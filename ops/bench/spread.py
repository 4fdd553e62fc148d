"""Figures that were measured in several rounds: their median and their spread."""

import math
import statistics
from dataclasses import dataclass
from typing import Optional, Sequence

CHANCE = 0.05  # most probability that the true median lies outside low to high, from six rounds on


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and the range that its true value lies in.

    Attributes:
        low, high: from the lowest to the highest round; with nine rounds or more without the lowest
            and the highest ones, as many as CHANCE allows.
    """

    median: float
    low: float
    high: float
    rounds: int


def spread(values: Sequence[float]) -> Optional[Spread]:
    """Return the median and the spread of a figure's rounds; None if it was not measured."""
    if not values:
        return None
    ordered = sorted(values)
    left_out = _left_out(len(ordered))
    return Spread(statistics.median(ordered), ordered[left_out], ordered[-1 - left_out], len(ordered))


def ratios(above: Sequence[float], below: Sequence[float]) -> Optional[Spread]:
    """Return the spread of the ratio of two figures, each round by itself; None if no round has both."""
    return spread([one / other for one, other in zip(above, below, strict=False) if other])


def _left_out(rounds: int) -> int:
    """Return how many of the lowest and of the highest rounds the range may leave out.

    The true median lies below the lowest `n` of them as seldom as a coin shows at most `n` heads.
    """
    outside, left_out = 0.0, 0
    while True:
        outside += 2 * math.comb(rounds, left_out) / 2**rounds
        if outside > CHANCE:
            return max(0, left_out - 1)
        left_out += 1
