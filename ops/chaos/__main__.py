"""`make chaos`: does KILLS kills in rounds, on Sentinels and on a cluster in turn. It exits with 1 after a breach."""

import argparse
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import List

from ops.chaos import round as chaos_round
from ops.chaos.report import SECONDS_A_KILL, Report
from ops.chaos.system import CLUSTER, FORMS, SENTINEL
from ops.local.servers import ROOT

RESULTS = ROOT / "results" / "chaos.json"


def main(arguments: List[str]) -> int:
    """Run the rounds, or continue a stopped run; return 1 if a promise was broken, else 0."""
    options = _options(arguments)
    report = Report(Path(options.results), options.seed, options.kills, options.round, options.form)
    left = options.kills - len(report.rounds) * options.round
    minutes = left * SECONDS_A_KILL / 60
    print(f"{left} of {options.kills} kills, seed {options.seed}: about {minutes:.0f} minutes", flush=True)
    end = time.monotonic() + options.minutes * 60
    while left > 0 and time.monotonic() < end:
        number = len(report.rounds)
        form = options.form[number % len(options.form)]
        kills = min(options.round, left)
        print(f"\nround {number + 1}: {kills} kills, {form}", flush=True)
        directory = Path(tempfile.mkdtemp(prefix="kefu-chaos-"))
        done = chaos_round.run(form, kills, f"{options.seed}:{number}", directory, partial(print, flush=True))
        report.add(done.show())
        print(f"\n{report.table()}", flush=True)
        if done.verdict.breaches:
            print(f"logs and data of this round: {directory}", flush=True)
        else:
            shutil.rmtree(directory)
        left -= kills
    if left > 0:
        print(f"{left} kills are left: the same command goes on with them", flush=True)
    return 1 if report.breaches else 0


def _options(arguments: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ops.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--round", type=int, default=50, help="kills a round; each has a fresh system")
    parser.add_argument("--form", nargs="+", choices=FORMS, default=[SENTINEL, CLUSTER], help="taken by turns")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no round after so many")
    parser.add_argument("--results", default=str(RESULTS))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
