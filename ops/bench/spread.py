"""Median and spread of a figure that was measured in several rounds."""

import math
import statistics
from dataclasses import dataclass
from typing import Optional, Sequence

CHANCE = 0.05  # limits the probability that the true median lies outside of the spread, from six rounds on


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and the range in which the true median lies.

    Attributes:
        low, high: the lowest and the highest round. From nine rounds on, the outermost rounds are left out, as many as
            CHANCE allows.
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
    """Return the spread of the ratios of two figures, one ratio for each round; None if no round has both figures."""
    return spread([one / other for one, other in zip(above, below, strict=False) if other])


def _left_out(rounds: int) -> int:
    """Return how many of the lowest and of the highest rounds the spread may leave out.

    The probability that at most `n` rounds lie below the true median is that of at most `n` heads in as many tosses of
    a coin as there are rounds.
    """
    outside, left_out = 0.0, 0
    while True:
        outside += 2 * math.comb(rounds, left_out) / 2**rounds
        if outside > CHANCE:
            return max(0, left_out - 1)
        left_out += 1
