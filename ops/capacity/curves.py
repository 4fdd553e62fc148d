"""Loads over time: messages per second from customers, and their open connections."""

import math
from dataclasses import dataclass
from statistics import fmean

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
SURGE = 15.0  # peak of a promotion, as a multiple of the usual load
PARTS = 10  # points of a customer's stay at which the rate is sampled
# Load by hour of the day, relative to the busiest hour; a shop's customers write at noon and in the evening.
_HOURS = (12, 7, 4, 3, 3, 5, 11, 24, 42, 62, 78, 80, 72, 74, 76, 74, 72, 70, 72, 84, 98, 100, 72, 34)


@dataclass(frozen=True)
class Curve:
    """A load over time. Calling it with a time in seconds returns the messages per second.

    Attributes:
        name: name in the report.
        lasts_s: duration in seconds.
        base: messages per second in the busiest usual hour.
        turns: messages per dialogue.
        dwell_s: seconds that a customer holds a connection open for a dialogue.
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
        """Return the number of connected customers: those who arrived during the last `dwell_s`."""
        came = fmean(self(at_s - self.dwell_s * (n + 0.5) / PARTS) for n in range(PARTS))
        return came / self.turns * self.dwell_s


@dataclass(frozen=True)
class Day(Curve):
    """A usual day."""


@dataclass(frozen=True)
class Promotion(Curve):
    """The hours around midnight of a promotion: fifteen-fold within seconds, then two hours of decay.

    Attributes:
        begins_s: time of midnight.
        rises_s: time from the usual load to the peak.
        holds_s: duration of the peak.
        half_life_s: half-life of the decay after the peak.
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
    """Constant rates one after the other, each for `step_s`, for a test run."""

    rates: tuple = (1.0,)
    step_s: float = 10.0

    def __call__(self, at_s: float) -> float:
        """Return messages a second."""
        return self.rates[min(len(self.rates) - 1, max(0, int(at_s // self.step_s)))]


def _hour(at_s: float) -> float:
    """Return the load relative to the busiest hour, interpolated between two hours."""
    hour, part = divmod((at_s % DAY_S) / HOUR_S, 1)
    now, then = _HOURS[int(hour)], _HOURS[(int(hour) + 1) % 24]
    return (now + (then - now) * part) / max(_HOURS)


def messages(curve: Curve, step_s: float = 10.0) -> float:
    """Return the total number of messages."""
    return math.fsum(curve(n * step_s) * step_s for n in range(int(curve.lasts_s / step_s)))


def for_users(users: int, dialogues_a_day: float = 0.2, turns: float = 5.0) -> float:
    """Return the messages per second in the busiest hour.

    Args:
        users: number of users of the shop's app.
        dialogues_a_day: dialogues per user and day.
        turns: messages per dialogue.
    """
    mean_share = sum(_HOURS) / len(_HOURS) / max(_HOURS)
    return users * dialogues_a_day * turns / DAY_S / mean_share
