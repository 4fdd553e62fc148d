"""Measures several systems in rounds: in each round, each system does each step, one after the other.

All systems run from the first round to the last, but only one of them works at a time. To start a system for each round
would take longer than the round (stock Rasa: 40 s of both cores), and the first turns of a process cost more than later
ones. Stock Rasa and Kefu together take 3 GB. CPU is counted by process, so no system pays for the other; the CPU of the
resting system is part of `others`.

The system that begins changes from round to round, so that a machine that gets slower or faster affects both alike.
"""

import statistics
from collections import defaultdict
from typing import Any, Dict, List, Sequence

from ops.bench import scenarios
from ops.bench.customers import Job
from ops.bench.plan import Step, Way
from ops.bench.scenarios import Numbers, System

SHARE_OF_PEAK = 0.7  # messages by the clock come at this share of the rate that the system reached before


class Rounds:
    """Measures systems in rounds; `results` has the results by system.

    Args:
        systems: the running systems.
        most_idle: limits the customers of a step by the clock.
    """

    def __init__(self, systems: Sequence[System], most_idle: int = 0) -> None:
        self._systems = list(systems)
        self._most_idle = most_idle
        self.numbers = {system.name: Numbers() for system in systems}
        self.results: Dict[str, List[Dict[str, Any]]] = defaultdict(list)

    def warm_up(self, steps: Sequence[Step]) -> None:
        """Run a few conversations by each driver of the steps, so that one-time work is done before the measurement."""
        for system in self._systems:
            drivers = [step.ways[system.name].driver for step in steps if system.name in step.ways]
            for driver in dict.fromkeys(drivers):
                scenarios.warm_up(system, self.numbers[system.name], driver)

    def run(self, steps: Sequence[Step]) -> None:
        """Do all rounds, each with all of its steps."""
        for number in range(max(step.rounds for step in steps)):
            systems = self._systems if number % 2 == 0 else self._systems[::-1]
            for step in steps:
                for system in systems:
                    if number < step.rounds and system.name in step.ways:
                        self.do(system, step, number)

    def do(self, system: System, step: Step, number: int) -> None:
        """Let a system do a step, keep the result and print a line about it."""
        result = scenarios.run(system, self._job(system, step))
        self.results[system.name].append({"round": number, **result})
        print(_line(number, result), flush=True)

    def _job(self, system: System, step: Step) -> Job:
        way, rate = step.ways[system.name], None
        users, conversations = way.users, way.conversations
        if step.by_clock:
            rate = SHARE_OF_PEAK * self._peak(system, step, way)
            users = max(16, min(self._most_idle, int(rate * 2)))  # more customers than messages under way at a time
            conversations = users + int(rate * step.seconds / step.turns) + 1
        first = self.numbers[system.name].take(step.script, conversations)
        return Job(
            way.driver, users, step.turns, conversations, first, step.seconds, step.script, rate, **system.jobs
        )  # fmt: skip

    def _peak(self, system: System, step: Step, way: Way) -> float:
        """Return the rate that the system reached by this driver while its customers waited for each answer."""
        wanted = way.driver, step.script, step.turns, None
        return statistics.median(
            each["turns_a_second"]
            for each in self.results[system.name]
            if tuple(each["job"][name] for name in ("driver", "script", "turns", "rate")) == wanted
        )


def _line(number: int, result: Dict[str, Any]) -> str:
    job = result["job"]
    pace = " by the clock" if job["rate"] else ""
    costs = ", ".join(f"{process} {ms:.2f}" for process, ms in result["cpu_ms_a_turn"].items())
    return (
        f"round {number + 1}, {result['system']}: {job['driver']}, {job['script']}, {job['turns']} turns{pace}: "
        f"{result['turns_a_second']:.0f} a second, p99 {result['latency_ms'].get('99', 0):.0f} ms; "
        f"CPU ms a turn: {costs}; "
        f"reference {result['reference_ms']:.0f} ms, others used {result['others_cpu_share']:.0%} of the machine"
    )
