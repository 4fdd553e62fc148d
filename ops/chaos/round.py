"""One round: a fresh system, load, kills, calm, the verdict."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict

from ops.chaos.evidence import gather, settle
from ops.chaos.faults import Tormentor
from ops.chaos.load import Load
from ops.chaos.plan import plan
from ops.chaos.system import System
from ops.chaos.verdict import Verdict, judge

RATE = 2.0  # new conversations a second, of six messages each
TALK_S = 300.0
ORDERS = "SELECT customer_id, number FROM orders ORDER BY number"


@dataclass
class Round:
    """What came of a round. Times in seconds."""

    form: str
    seed: str
    kills: Dict[str, int]
    verdict: Verdict
    started_s: float
    tormented_s: float
    settled_s: float
    troubles: Any

    def show(self) -> Dict[str, Any]:
        """Return it for the report."""
        times = {name: round(getattr(self, name), 1) for name in ("started_s", "tormented_s", "settled_s")}
        troubles = [trouble.show() for trouble in self.troubles] if self.verdict.breaches else []
        shown = {"form": self.form, "seed": self.seed, "kills": self.kills, **times, **self.verdict.show()}
        return {**shown, "troubles": troubles}


def run(form: str, kills: int, seed: str, directory: Path, tell: Callable[[str], None]) -> Round:
    """Run a round; what it was about lies in `directory` afterwards.

    Raises:
        RuntimeError: the system did not start, or did not come back from what was done to it.
    """
    began = time.monotonic()
    system = System(form, directory, tell)
    try:
        system.start()
        started = time.monotonic()
        load = Load(system.addresses, system.stack.token_secret, system.shop_rows(ORDERS), RATE, seed)
        tormentor = Tormentor(system, plan(kills, seed, form), tell)
        load.start()
        try:
            tormentor.run()
            tormentor.heal()
        finally:
            load.finish(TALK_S)
        tormented = time.monotonic()
        settled_s = asyncio.run(settle(system, load.talks))
        tell(f"calm after {settled_s:.0f} s; counting")
        verdict = judge(asyncio.run(gather(system, load.talks, tormentor.troubles)))
    finally:
        system.stop()
    kinds = tormentor.counts()
    return Round(form, seed, kinds, verdict, started - began, tormented - started, settled_s, tormentor.troubles)
