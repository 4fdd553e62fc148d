"""What is done with each system, in which order."""

import json
import os
import statistics
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, List

from ops.bench import scenarios
from ops.bench.customers import Job
from ops.bench.kefu import KefuSystem
from ops.bench.scenarios import Numbers, Plan
from ops.bench.scripts import ORDERS, TALK
from ops.bench.stock import QUIET, StockSystem
from ops.local.servers import ROOT, services_python

SHARE_OF_PEAK = 0.7


def measure_stock(system: StockSystem, plan: Plan) -> Dict[str, Any]:
    """Start stock Rasa, measure it, stop it."""
    say = _teller("stock")
    try:
        system.start()
        say(f"ready {system.start_s:.1f} s after its start")
        numbers = Numbers()
        scenarios.warm_up(system, numbers, "stock")
        found = _closed_loops(system, plan, numbers, "stock", say)
        found.append(_by_the_clock(system, plan, numbers, "stock", found[0]["turns_a_second"], say))
    finally:
        system.stop()
    return {"start_s": [system.start_s], "scenarios": found, "nlu_cpu_ms": _nlu("stock", system.model, plan)}


def measure_kefu(system: KefuSystem, plan: Plan) -> Dict[str, Any]:
    """Start Kefu, measure its worker alone, then all of it, then its gateway alone; stop it."""
    say = _teller("kefu")
    try:
        system.start()
        say("ready")
        numbers = Numbers()
        scenarios.warm_up(system, numbers, "kafka")
        found = _closed_loops(system, plan, numbers, "kafka", say)
        scenarios.warm_up(system, numbers, "gateway")
        found += [_whole_system(system, plan, numbers, script, say) for script in (TALK, ORDERS)]
        found.append(_by_the_clock(system, plan, numbers, "gateway", found[-2]["turns_a_second"], say))
        starts = [system.restart_worker() for _ in range(plan.starts)]
        say(f"worker ready {statistics.median(starts):.1f} s after its start")
        system.without_worker()
        found.append(_accepted(system, plan, numbers, say))
    finally:
        system.stop()
    model = Path(system.stack.settings["KEFU_MODEL"])
    return {"start_s": starts, "scenarios": found, "nlu_cpu_ms": _nlu("kefu", model, plan)}


def _closed_loops(system: Any, plan: Plan, numbers: Numbers, driver: str, say: Callable[..., None]) -> List[Any]:
    found = []
    for script, lengths in ((TALK, plan.talk), (ORDERS, plan.orders)):
        for turns, conversations in lengths[system.name]:
            users = min(plan.users[system.name], conversations)
            first = numbers.take(script, conversations)
            job = Job(driver, users, turns, conversations, first, plan.seconds, script, **system.jobs)
            found.append(say(scenarios.run(system, job)))
    return found


def _whole_system(system: KefuSystem, plan: Plan, numbers: Numbers, script: str, say: Callable[..., Any]) -> Any:
    count = plan.whole_conversations[script]
    first = numbers.take(script, count)
    job = Job("gateway", plan.whole_users, 5, count, first, plan.rate_seconds, script, **system.jobs)
    return say(scenarios.run(system, job))


def _by_the_clock(
    system: Any, plan: Plan, numbers: Numbers, driver: str, peak: float, say: Callable[..., Any]
) -> Dict[str, Any]:
    """Measure the latency at a share of the peak rate, with more customers than can ever be busy at once."""
    rate = SHARE_OF_PEAK * peak
    users = max(16, min(plan.most_idle, int(rate * 2)))
    conversations = users + int(rate * plan.rate_seconds / 5) + 1
    first = numbers.take(TALK, conversations)
    job = Job(driver, users, 5, conversations, first, plan.rate_seconds, TALK, rate, **system.jobs)
    return say(scenarios.run(system, job))


def _accepted(system: KefuSystem, plan: Plan, numbers: Numbers, say: Callable[..., Any]) -> Dict[str, Any]:
    count = plan.whole_conversations[TALK] * 4
    first = numbers.take(TALK, count)
    job = Job("accept", plan.whole_users, 5, count, first, plan.rate_seconds, TALK, **system.jobs)
    return say(scenarios.run(system, job))


def _nlu(kind: str, model: Path, plan: Plan) -> Dict[str, float]:
    """Return CPU ms a message by the size of a poll, measured in a process of its own; {} if that isn't planned."""
    if kind not in plan.nlu:
        return {}
    command = [str(services_python("worker")), "-W", "ignore", "-m", "ops.bench.nlu", kind, str(model)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False)
    if done.returncode:  # else what it says there are deprecations
        raise RuntimeError(f"NLU can't be measured:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _teller(name: str) -> Callable[..., Any]:
    """Return what prints news of a system: a sentence, or a scenario's result, which it gives back."""

    def say(what: Any) -> Any:
        if isinstance(what, str):
            print(f"{name}: {what}", flush=True)
            return what
        job = what["job"]
        print(
            f"{name}: {job['driver']}, {job['script']}, {job['turns']} turns: "
            f"{what['turns_a_second']:.0f} a second, p99 {what['latency_ms'].get('99', 0):.0f} ms, CPU ms a turn: "
            + ", ".join(f"{process} {ms:.2f}" for process, ms in what["cpu_ms_a_turn"].items())
            + f"; others used {what['others_cpu_share']:.0%} of the machine",
            flush=True,
        )
        return what

    return say
