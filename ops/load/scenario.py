"""Reads the scenarios of the load test.

It needs only the standard library, because Locust's environment runs it too.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import tomllib

FILE = Path(__file__).with_name("scenarios.toml")
THRESHOLDS = {"p50_ms", "p99_ms", "failed", "silent_streams"}


@dataclass(frozen=True)
class Scenario:
    """The load and its thresholds. Each stage has its seconds, and the messages per second at its end."""

    name: str
    about: str
    customers: int
    streams: int
    stages: Tuple[Tuple[float, float], ...]
    thresholds: Dict[str, float]

    @property
    def lasts_s(self) -> float:
        """The duration of all stages together, in s."""
        return sum(seconds for seconds, _ in self.stages)

    def rate(self, at_s: float) -> float:
        """Return the messages per second at a time; the first stage has its rate from the beginning."""
        before = self.stages[0][1]
        for seconds, rate in self.stages:
            if at_s < seconds:
                return before + (rate - before) * at_s / seconds
            at_s -= seconds
            before = rate
        return 0.0


def load(name: str, scale: float = 1.0, path: Path = FILE) -> Scenario:
    """Read a scenario. `scale` multiplies rates, customers and streams, not the thresholds.

    Raises:
        KeyError: there is no scenario of this name.
        ValueError: a field is missing or unknown.
    """
    fields = tomllib.loads(path.read_text(encoding="utf-8"))[name]
    _check(name, fields)
    return Scenario(
        name=name,
        about=fields["about"],
        customers=max(1, round(fields["customers"] * scale)),
        streams=max(1, round(fields["streams"] * scale)),
        stages=tuple((float(seconds), float(rate) * scale) for seconds, rate in fields["stages"]),
        thresholds=fields["thresholds"],
    )


def names(path: Path = FILE) -> List[str]:
    """Return the scenarios' names."""
    return sorted(tomllib.loads(path.read_text(encoding="utf-8")))


def _check(name: str, fields: Dict[str, Any]) -> None:
    wanted = {"about", "customers", "streams", "stages", "thresholds"}
    if set(fields) != wanted or set(fields["thresholds"]) != THRESHOLDS:
        raise ValueError(f"scenario {name}: must have {sorted(wanted)} and thresholds {sorted(THRESHOLDS)}")
