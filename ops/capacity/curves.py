"""Loads over time: messages a second that customers send, and how many are there at once."""

import math
from dataclasses import dataclass
from statistics import fmean

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
SURGE = 15.0
PARTS = 10  # of a customer's stay, at which is looked how many came
# Share of the busiest hour, by hour of the day; customers of a shop write at noon and in the evening.
_HOURS = (12, 7, 4, 3, 3, 5, 11, 24, 42, 62, 78, 80, 72, 74, 76, 74, 72, 70, 72, 84, 98, 100, 72, 34)


@dataclass(frozen=True)
class Curve:
    """A load. Calling it gives messages a second at a time in s.

    Attributes:
        name: for the report.
        lasts_s: how long it is.
        base: messages a second of the busiest usual hour.
        turns: messages of a dialogue.
        dwell_s: how long a customer is there, with a connection open, for a dialogue.
    """

    name: str
    lasts_s: float
    base: float
    turns: float = 5.0
    dwell_s: float = 150.0

    def __call__(self, at_s: float) -> float:
        """Return messages a second."""
        return self.base * _hour(at_s)

    def connections(self, at_s: float) -> float:
        """Return the customers who are there: those who came while the ones of now would have come and gone."""
        came = fmean(self(at_s - self.dwell_s * (n + 0.5) / PARTS) for n in range(PARTS))
        return came / self.turns * self.dwell_s


@dataclass(frozen=True)
class Day(Curve):
    """A usual day."""


@dataclass(frozen=True)
class Promotion(Curve):
    """The hours around midnight of a promotion: fifteen-fold within seconds, then two hours of decay.

    Attributes:
        begins_s: the stroke of midnight.
        rises_s: from usual to the peak.
        holds_s: how long the peak lasts.
        half_life_s: of the decay after it.
    """

    begins_s: float = 1800.0
    rises_s: float = 30.0
    holds_s: float = 600.0
    half_life_s: float = 900.0
    surge: float = SURGE

    def __call__(self, at_s: float) -> float:
        """Return messages a second."""
        since = at_s - self.begins_s
        if since < 0:
            return self.base
        if since < self.rises_s:
            return self.base * (1 + (self.surge - 1) * since / self.rises_s)
        decayed = max(0.0, since - self.rises_s - self.holds_s) / self.half_life_s
        return self.base * (1 + (self.surge - 1) * 0.5**decayed)


@dataclass(frozen=True)
class Steps(Curve):
    """Rates one after the other, each for `step_s`: what a test run does."""

    rates: tuple = (1.0,)
    step_s: float = 10.0

    def __call__(self, at_s: float) -> float:
        """Return messages a second."""
        return self.rates[min(len(self.rates) - 1, max(0, int(at_s // self.step_s)))]


def _hour(at_s: float) -> float:
    """Return the share of the busiest hour, between two hours in proportion."""
    hour, part = divmod((at_s % DAY_S) / HOUR_S, 1)
    now, then = _HOURS[int(hour)], _HOURS[(int(hour) + 1) % 24]
    return (now + (then - now) * part) / max(_HOURS)


def messages(curve: Curve, step_s: float = 10.0) -> float:
    """Return how many messages come in all."""
    return math.fsum(curve(n * step_s) * step_s for n in range(int(curve.lasts_s / step_s)))


def for_users(users: int, dialogues_a_day: float = 0.2, turns: float = 5.0) -> float:
    """Return the messages a second of the busiest hour that so many users make.

    Args:
        users: who have the shop's app.
        dialogues_a_day: of each of them.
        turns: messages of a dialogue.
    """
    mean_share = sum(_HOURS) / len(_HOURS) / max(_HOURS)
    return users * dialogues_a_day * turns / DAY_S / mean_share
