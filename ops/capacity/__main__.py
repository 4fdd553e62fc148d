"""`python -m ops.capacity [--users N | --rate N] [--curve day|promotion]`: pods, latency and cost of a load.

`python -m ops.capacity measure`: runs workers for two minutes and writes `measured.json`, with what `make bench` left
in `results/bench.json`. Prices: `prices.json`, or a file of your own (`--prices`). The installation is the one of the
chart's `values/production.yaml`, with what you put on it (`--values`).
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, List

from ops.capacity import curves, inputs
from ops.capacity.cost import Bill, bill
from ops.capacity.inputs import HERE, Measured, Prices, production
from ops.capacity.simulate import Outcome, Simulation
from ops.local.servers import ROOT

CURVES = {"day": curves.Day, "promotion": curves.Promotion}
LASTS_S = {"day": curves.DAY_S, "promotion": 3 * curves.HOUR_S}
STEPS_S = {"day": 10.0, "promotion": 1.0}
ROWS = 24


def main(arguments: List[str]) -> int:
    """Simulate and print, or measure. Return 0, or 2 if the measured figures or the prices can't be read."""
    options = _parser().parse_args(arguments)
    if options.what == "measure":
        from ops.capacity.measure import write

        with tempfile.TemporaryDirectory(prefix="kefu-capacity-") as folder:
            write(Path(folder), options.bench, options.measured)
        return 0
    try:
        costs, prices = inputs.measured(options.measured), inputs.prices(options.prices)
    except (OSError, ValueError, KeyError) as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 2
    report = simulate(options, costs, prices)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def simulate(options: argparse.Namespace, costs: Measured, prices: Prices) -> Dict[str, Any]:
    """Simulate the load that the options name, print the table, return the whole report."""
    base = options.rate or curves.for_users(options.users)
    curve = CURVES[options.curve](options.curve, LASTS_S[options.curve], base)
    changes = {"spare_pods": options.spare_pods} if options.spare_pods is not None else {}
    shape = production(*options.values, **changes)
    outcome = Simulation(curve, costs, shape, step_s=STEPS_S[options.curve]).run()
    priced = bill(outcome, curve, costs, shape, prices, peak=curves.SURGE * base)
    print(table(outcome, priced))
    return {"shape": asdict(shape), "measured": asdict(costs), "outcome": asdict(outcome), "bill": asdict(priced)}


def table(outcome: Outcome, priced: Bill) -> str:
    """Return the report as text."""
    lines = ["   time   messages/s  waiting   p50 ms   p99 ms  workers (ready)  gateways  actions"]
    step = max(1, len(outcome.intervals) // ROWS)
    lines += [
        f"{each.at_s / 60:5.0f} min {each.came / each.seconds:11,.0f} {each.waiting:8,.0f} {each.p50_ms:8,.0f} "
        f"{each.p99_ms:8,.0f} {each.workers:8d} ({each.ready_workers:3d}) {each.gateways:11d} {each.actions:8d}"
        for each in outcome.intervals[::step]
    ]
    parts = ", ".join(f"{name} {yuan:,.0f}" for name, yuan in priced.parts.items())
    lines += [
        f"answered within 600 ms: {outcome.in_time_share:.2%}; slowest {outcome.longest_wait_ms / 1000:,.1f} s; "
        f"most waiting {outcome.most_waiting:,.0f}; partitions moved {outcome.moved_partitions:,}",
        f"most pods: {outcome.most_pods}; action servers full for {outcome.actions_full_s:,.0f} s; "
        f"brokers {priced.brokers}, Redis masters {priced.masters}",
        f"cost: {priced.total:,.0f} yuan ({parts})",
        f"a dialogue: {priced.per_dialogue:.5f} yuan; target {priced.target:g}",
    ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.capacity", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("simulate", "measure"), default="simulate")
    load = parser.add_mutually_exclusive_group()
    load.add_argument("--users", type=int, default=1_000_000, help="who have the app; 0.2 dialogues a day each")
    load.add_argument("--rate", type=float, help="messages a second of the busiest usual hour")
    parser.add_argument("--curve", choices=sorted(CURVES), default="promotion")
    parser.add_argument("--values", type=Path, action="append", default=[], help="a values file besides, as for Helm")
    parser.add_argument("--spare-pods", type=int, help="of each kind that the nodes have room for")
    parser.add_argument("--measured", type=Path, default=HERE / "measured.json")
    parser.add_argument("--prices", type=Path, default=HERE / "prices.json")
    parser.add_argument("--bench", type=Path, default=ROOT / "results" / "bench.json")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "capacity.json")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
