"""Stock Rasa and Kefu side by side, and then what Kefu alone has: starts of the worker, the gateway by itself."""

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
        folder: of the systems' data and logs.
        settings: of the processes of both systems, beside those that the bench itself needs.
    """
    systems: Dict[str, Any] = {}
    if "stock" in only:
        systems["stock"] = StockSystem(folder / "stock", plan.epochs, settings)
    if "kefu" in only:
        systems["kefu"] = KefuSystem(folder / "kefu", settings)
    try:
        for name, system in systems.items():
            system.start()
            print(f"{name} is ready", flush=True)
        rounds = Rounds(list(systems.values()), plan.most_idle)
        rounds.warm_up(plan.steps)
        rounds.run(plan.steps)
        starts = {name: [system.start_s] for name, system in systems.items() if name == "stock"}
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
    """Start the worker anew some times, stop it, let the gateway accept; returns how long each start took, in s."""
    starts = [system.restart_worker() for _ in range(plan.starts)]
    system.without_worker()
    for number in range(plan.accepting.rounds):
        rounds.do(system, plan.accepting, number)
    return starts


def _nlu(plan: Plan, models: Mapping[str, Path]) -> Dict[str, Any]:
    """Return by system what its NLU costs, a dictionary a round; the systems take turns."""
    found: Dict[str, Any] = {}
    for number in range(max(plan.nlu.values())):
        for name, model in models.items():
            if number < plan.nlu.get(name, 0):
                found.setdefault(name, []).append(_nlu_once(name, model))
    return found


def _nlu_once(name: str, model: Path) -> Dict[str, Any]:
    """Return CPU ms a message by the size of a poll, measured in a process of its own, and the pace beside it."""
    command = [str(services_python("worker")), "-W", "ignore", "-m", "ops.bench.nlu", name, str(model)]
    environment = {**os.environ, **QUIET}
    with Pace() as pace:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:  # the other lines on stderr warn of what is deprecated
        raise RuntimeError(f"NLU can't be measured:\n{done.stderr[-2000:]}")
    return {"cpu_ms": json.loads(done.stdout.splitlines()[-1]), "reference_ms": pace.reference_ms}
