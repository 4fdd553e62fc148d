"""Measures stock Rasa and Kefu in rounds, then Kefu alone: the worker's start, and the gateway without a worker."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, Mapping, Sequence

from ops.bench.kefu import KefuSystem
from ops.bench.plan import Plan
from ops.bench.reference import Pace
from ops.bench.rounds import Rounds
from ops.bench.stock import QUIET, StockSystem
from ops.local.servers import ROOT, services_python


def compare(plan: Plan, only: Sequence[str], folder: Path, settings: Mapping[str, str]) -> Dict[str, Any]:
    """Start the systems, measure them in rounds, stop them; returns results by system.

    Args:
        plan: the steps and their sizes.
        only: `stock`, `kefu` or both.
        folder: the folder for the systems' data and logs.
        settings: settings of both systems' processes, beside those that the bench needs.
    """
    systems: Dict[str, Any] = {}
    if "stock" in only:
        systems["stock"] = StockSystem(folder / "stock", plan.training, settings)
    if "kefu" in only:
        systems["kefu"] = KefuSystem(folder / "kefu", settings)
    try:
        for name, system in systems.items():
            system.start()
            print(f"{name} is ready", flush=True)
        rounds = Rounds(list(systems.values()), plan.most_idle)
        rounds.warm_up(plan.steps)
        rounds.run(plan.steps)
        starts: Dict[str, Sequence[float]] = {
            name: [system.start_s] for name, system in systems.items() if name == "stock"
        }
        if "kefu" in systems:
            starts["kefu"] = _kefu_alone(systems["kefu"], plan, rounds)
    finally:
        for system in systems.values():
            system.stop()
    nlu = _nlu(plan, {name: system.model for name, system in systems.items()})
    return {
        name: {"start_s": starts[name], "scenarios": rounds.results[name], "nlu": nlu.get(name, [])} for name in systems
    }


def _kefu_alone(system: KefuSystem, plan: Plan, rounds: Rounds) -> Sequence[float]:
    """Restart the worker some times, stop it, measure the gateway's accepting; return the time of each start in s."""
    starts = [system.restart_worker() for _ in range(plan.starts)]
    system.without_worker()
    for number in range(plan.accepting.rounds):
        rounds.do(system, plan.accepting, number)
    return starts


def _nlu(plan: Plan, models: Mapping[str, Path]) -> Dict[str, Any]:
    """Return the CPU time of each system's NLU, by system, one dictionary a round. The systems take turns."""
    costs: Dict[str, Any] = {}
    for number in range(max(plan.nlu.values())):
        for name, model in models.items():
            if number < plan.nlu.get(name, 0):
                costs.setdefault(name, []).append(_nlu_once(name, model))
    return costs


def _nlu_once(name: str, model: Path) -> Dict[str, Any]:
    """Return NLU's CPU ms a message by the size of a poll, and the reference's time. NLU runs in its own process."""
    command = [str(services_python("worker")), "-W", "ignore", "-m", "ops.bench.nlu", name, str(model)]
    environment = {**os.environ, **QUIET}
    with Pace() as pace:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:  # only then print stderr: otherwise it has only warnings of deprecations
        raise RuntimeError(f"NLU can't be measured:\n{done.stderr[-2000:]}")
    return {"cpu_ms": json.loads(done.stdout.splitlines()[-1]), "reference_ms": pace.reference_ms}
