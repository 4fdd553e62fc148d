"""Reads figures from the results of a run, by system and scenario. A list has one value for each round.

CPU is normalised: it is the CPU that the process would have used if the reference took REFERENCE_MS.
"""

from typing import Any, Dict, List

from ops.bench.reference import REFERENCE_MS
from ops.bench.scripts import TALK

# By system, the driver that measures only the process that runs Rasa, and the driver that measures the whole system.
WORKER_ALONE = {"stock": "stock", "kefu": "kafka"}
WHOLE = {"stock": "stock", "kefu": "gateway"}
PROCESSES = ("worker", "gateway", "kafka", "redis", "actions", "shop", "load generator")
WRONG = ("lost", "failed", "silent", "doubled", "out_of_order", "unexpected")
Scenario = Dict[str, Any]


def scenarios(
    systems: Any, name: str, driver: str, script: str, turns: int, by_clock: bool = False
) -> List[Scenario]:  # fmt: skip
    """Return the results of a system's scenario, round by round; empty if it was not run."""
    wanted = (driver, script, turns, by_clock)
    return [each for each in systems.get(name, {}).get("scenarios", []) if kind(each) == wanted]


def kind(each: Scenario) -> Any:
    """Return a key that is equal for the same scenario in different rounds."""
    job = each["job"]
    return job["driver"], job["script"], job["turns"], job["rate"] is not None


def normal(each: Dict[str, Any], ms: float) -> float:
    """Return CPU time as it would have been if the reference took REFERENCE_MS."""
    return ms * REFERENCE_MS / each["reference_ms"]


def cpu_ms(found: List[Scenario], process: str) -> List[float]:
    """Return a process's CPU ms a turn; empty if the process was not part of the scenario."""
    return [normal(each, each["cpu_ms_a_turn"][process]) for each in found if process in each["cpu_ms_a_turn"]]


def cpu_ms_a_call(found: List[Scenario], process: str) -> List[float]:
    """Return a process's CPU ms for each call of the action server."""
    calls = [each["action_calls_a_turn"] for each in found]
    return [ms / each for ms, each in zip(cpu_ms(found, process), calls, strict=True) if each]


def worker_ms(systems: Any, name: str, turns: int, script: str = TALK, nlu: bool = True) -> List[float]:
    """Return the worker's CPU ms a turn, with or without the part that its metrics count as NLU."""
    found = scenarios(systems, name, WORKER_ALONE[name], script, turns)
    if nlu:
        return cpu_ms(found, "worker")
    return [
        normal(each, each["cpu_ms_a_turn"]["worker"] - each["nlu_cpu_ms_a_turn"])
        for each in found
        if "nlu_cpu_ms_a_turn" in each
    ]


def nlu_ms(systems: Any, name: str, size: int) -> List[float]:
    """Return NLU's CPU ms a message in polls of this size."""
    return [normal(each, each["cpu_ms"][str(size)]) for each in systems.get(name, {}).get("nlu", [])]


def wrong(each: Scenario) -> int:
    """Return how many messages of a scenario got no answer, a wrong answer, or too many answers."""
    return sum(each[name] for name in WRONG)
