"""Draws `bench.json`: `python -m ops.bench.plot RESULTS PICTURE`, under Rasa's Python, which has matplotlib."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from ops.bench import results
from ops.bench.report import short
from ops.bench.scripts import ORDERS, TALK

COLOURS = {"stock": "#b3541e", "kefu": "#1e6fb3"}
NAMES = {"stock": "stock Rasa", "kefu": "Kefu"}
STYLES = {TALK: "-o", ORDERS: "--s"}
LENGTHS = (5, 50, 500)


def main() -> None:
    """Draw cost by length, CPU by process, and latency by rate side by side; medians over the rounds."""
    found = json.loads(Path(sys.argv[1]).read_text())
    figure, axes = pyplot.subplots(1, 3, figsize=(16, 5))
    _by_length(axes[0], found["systems"])
    _by_process(axes[1], found["systems"])
    _latency(axes[2], found["systems"])
    figure.suptitle(f"Stock Rasa and Kefu, {found['machine']['cores']} cores, {found['machine']['at'][:10]}")
    figure.tight_layout()
    figure.savefig(sys.argv[2], dpi=120)


def _by_length(axis: Any, systems: Any) -> None:
    for name in systems:
        for script, style in STYLES.items():
            costs = {turns: results.worker_ms(systems, name, turns, script) for turns in LENGTHS}
            points = [(turns, statistics.median(ms)) for turns, ms in costs.items() if ms]
            if points:
                label = f"{NAMES[name]}, {script}"
                axis.plot([at for at, _ in points], [ms for _, ms in points], style, color=COLOURS[name], label=label)
                below = -12 if script == ORDERS and name == "stock" else 6  # stock's two lines end in one place
                axis.annotate(short(points[-1][1]), points[-1], textcoords="offset points", xytext=(0, below))
    axis.set(xscale="log", yscale="log", xlabel="turns of a conversation", ylabel="CPU ms a turn")
    axis.set(title="CPU of the process that runs Rasa", xticks=LENGTHS, xticklabels=LENGTHS)
    axis.grid(alpha=0.3)
    axis.legend()


def _by_process(axis: Any, systems: Any) -> None:
    for at, name in enumerate(systems):
        found = results.scenarios(systems, name, results.WHOLE[name], TALK, 5)
        floor = 0.0
        for n, process in enumerate(results.PROCESSES):
            ms = statistics.median(results.cpu_ms(found, process) or [0.0])
            axis.bar(at, ms, bottom=floor, color=f"C{n}", label=process if at == 0 else None)
            floor += ms
        axis.annotate(f"{short(floor)} ms", (at, floor), ha="center", va="bottom")
    axis.set(xticks=range(len(systems)), xticklabels=[NAMES[name] for name in systems])
    axis.set(title="CPU of all processes, whole system, talk, 5 turns", ylabel="CPU ms a turn")
    axis.margins(y=0.08)
    axis.legend(loc="upper right")


def _latency(axis: Any, systems: Any) -> None:
    shown = ("50", "95", "99")
    for n, name in enumerate(systems):
        found = results.scenarios(systems, name, results.WHOLE[name], TALK, 5, by_clock=True)
        if found:
            rate = statistics.median(each["job"]["rate"] for each in found)
            bars = axis.bar(
                [at + n * 0.4 for at in range(3)],
                [statistics.median(each["latency_ms"][p] for each in found) for p in shown],
                0.38, color=COLOURS[name], label=f"{NAMES[name]} at {rate:.0f} messages a second",
            )  # fmt: skip
            axis.bar_label(bars, fmt="%.0f")
    axis.set(xticks=[at + 0.2 for at in range(3)], xticklabels=[f"p{p}" for p in shown])
    axis.set(title="POST to reply at 70 % of the peak rate", ylabel="ms")
    axis.margins(y=0.2)
    axis.legend(loc="upper left")


if __name__ == "__main__":
    main()
