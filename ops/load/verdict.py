"""Judges a run of the load test: quantiles, broken thresholds, and whether it is worse than the last accepted run.

Two runs are compared by their windows of 10 s with the Mann-Whitney test, which assumes no distribution of the times.
Windows of one run are more alike than windows of two runs, so a difference must also be large (`WORSE`) to count.
"""

import math
from statistics import median
from typing import Any, Dict, List, Sequence

WINDOW_S = 10.0  # the length of a window
LEAST_WINDOWS = 4  # runs with fewer windows can't be compared
P_VALUE = 0.01  # a difference that comes by chance with at least this probability doesn't count
WORSE = {"p50_ms": 1.15, "p99_ms": 1.25}  # a figure must be more than this many times the accepted figure to count
LEAST_MS = 5.0  # smaller differences don't count, because no customer notices them


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value that this share of a sorted sequence stays within; 0 for an empty one."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def summary(found: Dict[str, Any]) -> Dict[str, Any]:
    """Return the figures of a run, in total and by window. `found` is the JSON that the locustfile wrote."""
    outcomes = found["said"]
    times = sorted(ms for _, ms, good in outcomes if good)
    bad = sum(not good for _, _, good in outcomes) + found["unsaid"]
    windows: Dict[int, List[float]] = {}
    for at, ms, good in outcomes:
        if good:
            windows.setdefault(int(at // WINDOW_S), []).append(ms)
    ordered = [sorted(windows[number]) for number in sorted(windows)]
    streams = found["streams"]
    return {
        "scenario": found["scenario"],
        "messages": len(outcomes) + found["unsaid"],
        "p50_ms": quantile(times, 0.5),
        "p99_ms": quantile(times, 0.99),
        "failed": bad / max(1, len(outcomes) + found["unsaid"]),
        "silent_streams": sum(not replies for replies in streams) / max(1, len(streams)),
        "windows": {"p50_ms": [quantile(w, 0.5) for w in ordered], "p99_ms": [quantile(w, 0.99) for w in ordered]},
    }


def broken(figures: Dict[str, Any], thresholds: Dict[str, float]) -> List[str]:
    """Return a sentence for each broken threshold, or one for a run without messages."""
    if not figures["messages"]:
        return ["no message was said"]
    return [
        f"{name} is {figures[name]:.5g}, at most {limit:g} is allowed"
        for name, limit in thresholds.items()
        if figures[name] > limit
    ]


def regressions(now: Dict[str, Any], accepted: Dict[str, Any]) -> List[str]:
    """Return a sentence for each figure that is significantly and much worse than in the accepted run."""
    sentences = []
    for name, factor in WORSE.items():
        new, old = now["windows"][name], accepted["windows"][name]
        if min(len(new), len(old)) < LEAST_WINDOWS:
            sentences.append(f"{name} can't be compared: fewer than {LEAST_WINDOWS} windows of {WINDOW_S:.0f} s")
            continue
        before, after = median(old), median(new)
        chance = greater(new, old)
        if chance < P_VALUE and after > before * factor and after - before > LEAST_MS:
            sentences.append(f"{name} was {before:.0f}, is {after:.0f} (medians of windows; by chance: {chance:.2g})")
    return sentences


def greater(new: Sequence[float], old: Sequence[float]) -> float:
    """Return the probability of such greater values in `new` if both have one distribution (Mann-Whitney, one-sided).

    Normal approximation with correction for ties and continuity; exact enough from about four values each.
    """
    values = sorted([(value, 1) for value in new] + [(value, 0) for value in old])
    ranks, ties, place = 0.0, 0.0, 0
    while place < len(values):
        end = place
        while end < len(values) and values[end][0] == values[place][0]:
            end += 1
        same = end - place
        ranks += (place + end + 1) / 2 * sum(is_new for _, is_new in values[place:end])
        ties += same**3 - same
        place = end
    n, m = len(new), len(old)
    u = ranks - n * (n + 1) / 2
    total = n + m
    spread = math.sqrt(n * m / 12 * (total + 1 - ties / (total * (total - 1))))
    return 1.0 if spread == 0 else 0.5 * math.erfc((u - n * m / 2 - 0.5) / spread / math.sqrt(2))
