"""Runs one scenario: the load generator does a job, while the system's CPU time and memory are measured."""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from typing import Any, Dict, Protocol

from ops.bench import measure
from ops.bench.customers import Job
from ops.bench.reference import Pace
from ops.bench.scripts import ORDER_NUMBERS, ORDERS, TALK
from ops.local.servers import ROOT

SETTLE_S = 0.3  # wait before the second sample: offsets are committed and logs are written after the last answer
TALK_FROM = 100_000  # the first number of customers for `talk`; lower numbers are customers with an order, see `shop`


class System(Protocol):
    """A system that can be measured: stock Rasa, Kefu, or a build of Kefu."""

    name: str

    @property
    def jobs(self) -> Dict[str, str]:
        """The fields of a `Job` by which the load generator reaches the system."""

    @property
    def actions_metrics(self) -> str:
        """The URL of the action server's metrics."""

    @property
    def worker_metrics(self) -> str:
        """The URL of the worker's metrics; empty if it has none."""

    def pids(self) -> Dict[str, int]:
        """Return the process ids by name."""


class Numbers:
    """Gives each job numbers of conversations that no other job has."""

    def __init__(self) -> None:
        self._next = {TALK: TALK_FROM, ORDERS: 0}

    def take(self, script: str, count: int) -> int:
        """Return the first of `count` numbers that no other job has."""
        first = self._next[script]
        self._next[script] += count
        if self._next[ORDERS] > ORDER_NUMBERS:
            raise ValueError("more conversations about orders than customers who have one")
        return first

    def left(self, script: str) -> int:
        """Return how many conversations may still be taken. Of `talk` there is no limit."""
        return ORDER_NUMBERS - self._next[ORDERS] if script == ORDERS else sys.maxsize


def run(system: System, job: Job) -> Dict[str, Any]:
    """Do a job; return the customers' figures, and the CPU time and memory of the processes."""
    generator = subprocess.Popen(
        [sys.executable, "-m", "ops.bench.load"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        return _measured(system, job, generator)
    finally:
        generator.kill()
        generator.wait()


def _measured(system: System, job: Job, generator: "subprocess.Popen[str]") -> Dict[str, Any]:
    _tell(generator, json.dumps(asdict(job)))
    _hear(generator)
    pids = {**system.pids(), "load generator": generator.pid}
    calls, worker = measure.metrics(system.actions_metrics), _worker_metrics(system)
    before = measure.sample(pids)
    with Pace() as pace:
        _tell(generator, "go")
        found = json.loads(_hear(generator))
    time.sleep(SETTLE_S)
    used = measure.sample(pids).since(before)
    called = measure.metrics(system.actions_metrics)
    turns = max(1, found["turns"])
    return {
        "system": system.name,
        "job": {name: value for name, value in asdict(job).items() if name not in ("url", "brokers", "token_secret")},
        **found,
        **used,
        "reference_ms": pace.reference_ms,
        "cpu_ms_a_turn": {name: seconds * 1000 / turns for name, seconds in used["cpu_s"].items()},
        "action_calls_a_turn": (_calls(called) - _calls(calls)) / turns,
        "failed_action_calls": (_calls(called) - _calls(calls)) - (_calls(called, "200") - _calls(calls, "200")),
        **_nlu(system, worker, turns),
    }


def _worker_metrics(system: System) -> Dict[str, float]:
    """Return the metrics of the worker; empty for stock Rasa and for a worker that was stopped."""
    return measure.metrics(system.worker_metrics) if system.worker_metrics else {}


def _nlu(system: System, before: Dict[str, float], turns: int) -> Dict[str, float]:
    """Return the CPU of NLU and the texts a poll since `before`, by the worker's metrics; {} if it has none."""
    after = _worker_metrics(system)
    if not after:
        return {}

    def grown(name: str) -> float:
        return measure.total(after, name) - measure.total(before, name)

    return {
        "nlu_cpu_ms_a_turn": grown("kefu_nlu_cpu_seconds_total") * 1000 / turns,
        "texts_a_poll": grown("kefu_poll_messages_sum") / max(1.0, grown("kefu_poll_messages_count")),
    }


def _calls(found: Dict[str, float], status: str = "") -> float:
    """Return how many calls the action server answered, with any status or with one."""
    wanted = f'status="{status}"' if status else ""
    requests = {key: value for key, value in found.items() if wanted in key}
    return measure.total(requests, "kefu_http_requests_total")


def _tell(generator: "subprocess.Popen[str]", line: str) -> None:
    assert generator.stdin is not None
    generator.stdin.write(line + "\n")
    generator.stdin.flush()


def _hear(generator: "subprocess.Popen[str]") -> str:
    assert generator.stdout is not None
    line = generator.stdout.readline()
    if not line:
        raise RuntimeError(f"the load generator ended with {generator.wait()}")
    return line


def warm_up(system: System, numbers: Numbers, driver: str) -> Dict[str, Any]:
    """Run a few conversations of both scripts, so that one-time work is done before the measurement."""
    found = {}
    for script in (TALK, ORDERS):
        first = numbers.take(script, 16)
        found = run(system, Job(driver, 8, 5, 16, first, 30, script, None, **system.jobs))
    return found
