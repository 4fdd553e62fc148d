"""`make soak`: checks that memory does not grow while the whole system is under load for an hour (`--minutes`).

Simulated customers talk and ask for orders. The worker may keep only a few turns in memory here, so that its caches are
full after the first minutes, and only a leak grows. Writes `soak.json`; ends with 1 if a process's memory grows by more
than FLAT in the time of the run, or if an answer was lost, doubled or out of order.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

from ops.bench import results, scenarios
from ops.bench.customers import Job
from ops.bench.kefu import KefuSystem
from ops.bench.scenarios import Numbers
from ops.bench.scripts import ORDERS, TALK
from ops.local.servers import ROOT

FLAT = 0.05  # the largest allowed growth of a process's memory, as a share. Source: DESIGN.md, Figures to reach
LIVE_TURNS = 1000  # limits the turns that the worker keeps in memory
ROUND_S = 10.0  # the length of a round; memory is sampled after each
RATE = 40.0  # turns a second: the processes are idle most of the time, as those of a shop are
CUSTOMERS = 64
ORDERS_EVERY = 5  # one round in this many asks for orders, because the number of customers with an order is limited
PROCESSES = ("worker", "gateway", "actions")  # Kafka and Redis are left out: they keep the data that they are given


def main(arguments: List[str]) -> int:
    """Run the load, print each process's growth; return the exit code."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kefu-soak-") as folder:
        system = KefuSystem(Path(folder), {"KEFU_LIVE_TURNS": str(LIVE_TURNS)})
        try:
            system.start()
            rounds = _soak(system, time.monotonic() + options.minutes * 60)
        finally:
            system.stop()
    found = {"minutes": options.minutes, "rounds": rounds, "growth": growth(rounds), "wrong": wrong(rounds)}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    print(f"growth in the time of the run: {found['growth']}; wrong: {found['wrong']}")
    return int(max(found["growth"].values()) > FLAT or found["wrong"] > 0)


def growth(rounds: List[Dict[str, Any]]) -> Dict[str, float]:
    """Return the growth of each process's memory in the time of the whole run, as a share.

    It is the slope of a line through the second half of the run, because caches are full by then.
    """
    later = rounds[len(rounds) // 2 :]

    def share(name: str) -> float:
        mb = [each["rss_mb"][name] for each in later]
        return statistics.linear_regression(range(len(mb)), mb).slope * len(rounds) / statistics.median(mb)

    return {name: round(share(name), 4) for name in PROCESSES}


def wrong(rounds: List[Dict[str, Any]]) -> int:
    """Return how many answers were lost, doubled, out of order or failed."""
    return sum(each["wrong"] for each in rounds)


def _soak(system: KefuSystem, end: float) -> List[Dict[str, Any]]:
    numbers = Numbers()
    scenarios.warm_up(system, numbers, "gateway")
    rounds: List[Dict[str, Any]] = []
    while time.monotonic() < end or len(rounds) < 8:
        script = ORDERS if len(rounds) % ORDERS_EVERY == 0 and numbers.left(ORDERS) > 2 * CUSTOMERS else TALK
        done = scenarios.run(system, _job(system, numbers, script))
        rounds.append(
            {
                "script": script,
                "turns": done["turns"],
                "rss_mb": done["rss_mb_after"],
                "wrong": results.wrong(done),
            }
        )
        print(f"{len(rounds)}: {script}, {done['turns']} turns, MB: {_rounded(done['rss_mb_after'])}", flush=True)
    return rounds


def _job(system: KefuSystem, numbers: Numbers, script: str) -> Job:
    rate = RATE if script == TALK else RATE / 8
    customers = CUSTOMERS if script == TALK else CUSTOMERS // 4
    conversations = customers + int(rate * ROUND_S / 5) + 1
    first = numbers.take(script, conversations)
    return Job("gateway", customers, 5, conversations, first, ROUND_S, script, rate, **system.jobs)


def _rounded(by_name: Dict[str, float]) -> Dict[str, int]:
    return {name: round(value) for name, value in by_name.items()}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
