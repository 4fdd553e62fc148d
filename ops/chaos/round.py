"""One round: start a fresh system, put load on it, inject the faults, wait for recovery, judge."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict

from ops.chaos.evidence import gather, settle
from ops.chaos.faults import FaultInjector
from ops.chaos.load import Load
from ops.chaos.plan import plan
from ops.chaos.system import System
from ops.chaos.verdict import Verdict, judge

RATE = 2.0  # new conversations per second, of six messages each
TALK_S = 300.0  # longest wait for the running conversations to end; beyond it the round fails
ORDERS = "SELECT customer_id, number FROM orders ORDER BY number"


@dataclass
class Round:
    """The result of a round.

    Attributes:
        kills: the number of injected faults by kind.
        started_s: how long the system took to start.
        faults_s: how long the faults lasted, until all conversations had ended.
        settled_s: how long it then took until every message had its outcome.
    """

    form: str
    seed: str
    kills: Dict[str, int]
    verdict: Verdict
    started_s: float
    faults_s: float
    settled_s: float
    troubles: Any

    def show(self) -> Dict[str, Any]:
        """Return the round as JSON for the report."""
        times = {name: round(getattr(self, name), 1) for name in ("started_s", "faults_s", "settled_s")}
        troubles = [trouble.show() for trouble in self.troubles] if self.verdict.breaches else []
        shown = {"form": self.form, "seed": self.seed, "kills": self.kills, **times, **self.verdict.show()}
        return {**shown, "troubles": troubles}


def run(form: str, kills: int, seed: str, directory: Path, tell: Callable[[str], None]) -> Round:
    """Run a round; logs and data remain in `directory`.

    Raises:
        RuntimeError: the system did not start, or did not recover from a fault.
    """
    began = time.monotonic()
    system = System(form, directory, tell)
    try:
        system.start()
        started = time.monotonic()
        load = Load(system.addresses, system.stack.token_secret, system.shop_rows(ORDERS), RATE, seed)
        injector = FaultInjector(system, plan(kills, seed, form), tell)
        load.start()
        try:
            injector.run()
            injector.heal()
        finally:
            load.finish(TALK_S)
        healed = time.monotonic()
        settled_s = asyncio.run(settle(system, load.talks))
        tell(f"calm after {settled_s:.0f} s; counting")
        verdict = judge(asyncio.run(gather(system, load.talks, injector.troubles)))
    finally:
        system.stop()
    kinds = injector.counts()
    return Round(form, seed, kinds, verdict, started - began, healed - started, settled_s, injector.troubles)
