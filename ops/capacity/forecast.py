"""The short real run and its forecast: what `measure` writes from and what the test compares."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any, Dict, List

from ops.capacity.curves import Steps
from ops.capacity.hpa import PERCENT, PODS, Policy, Rules, Scaling
from ops.capacity.inputs import Kind, Measured, Shape
from ops.capacity.real import RealRun, Seen
from ops.capacity.simulate import Outcome, Simulation

PLACES, TURN_S, PARTITIONS, BURST = 8, 0.4, 8, 60
BURSTS, JOINS = 3, 3  # a stall of the machine is in one of them
SHARES = (0.5, 2.5, 2.5, 2.5, 0.5)  # of what one worker can do, step by step
STEP_S = 8.0
SEEDS = 9
# A night in a minute: the controller looks five times as often, and gives up pods soon.
SCALING = Scaling(
    low=1,
    high=4,
    up=Rules((Policy(PERCENT, 100, 3),)),
    down=Rules((Policy(PODS, 1, 6),), window_s=12),
    sync_s=3,
)
# Of these, only what the real run measures matters to a forecast of workers alone.
ALONE = Measured(
    **dict.fromkeys(Measured.__dataclass_fields__, 0.0),
)


def run(directory: Path) -> Dict[str, Any]:
    """Measure one worker and a join, then run the load for real; returns `measured`, `curve`, `threshold`, `seen`."""
    real = RealRun(directory, PLACES, TURN_S, PARTITIONS)
    try:
        real.start()
        real.worker_rate(BURST // 2)  # warm
        rate = real.worker_rate(BURST, BURSTS)
        joined = real.usual_join_s(JOINS)
        curve = Steps("steps", STEP_S * len(SHARES), rate, rates=tuple(rate * share for share in SHARES), step_s=STEP_S)
        threshold = max(1, int(rate))
        seen = real.follow(curve, SCALING, threshold)
    finally:
        real.stop()
    return {"rate": rate, **joined, "curve": curve, "threshold": threshold, "seen": seen}


def forecasts(found: Dict[str, Any]) -> List[Outcome]:
    """Return what the simulator says of the same load, fed with what was measured before it, by several chances."""
    return [_forecast(found, seed) for seed in range(SEEDS)]


def _forecast(found: Dict[str, Any], seed: int) -> Outcome:
    measured = replace(
        ALONE,
        worker_ms=1.0,
        gateway_ms=0.001,
        concurrent_ms=PLACES / found["rate"] * 1000,
        start_s=found["start_s"],
        rebalance_s=found["rebalance_s"],
        commit_s=1.0,
        base_p50_ms=PLACES / found["rate"] * 1000,
        base_p99_ms=PLACES / found["rate"] * 2000,
    )
    idle = Kind(Scaling(low=1, high=1))
    shape = Shape(
        worker=Kind(SCALING),
        gateway=idle,
        actions=idle,
        partitions=PARTITIONS,
        lag_threshold=found["threshold"],
        lag_s=0.0,
        connections_a_gateway=1,
        late_ms=1e9,
        place_s=0.0,
        turns_at_once=PLACES,
    )
    curve = replace(found["curve"], lasts_s=found["curve"].lasts_s + 60)
    curve = _then_silence(curve, found["curve"].lasts_s)
    simulation = Simulation(curve, measured, shape, 1, step_s=0.25, every_s=1.0, seed=seed)
    # How long starts take, where several fight for two cores with all else, is this machine's and no forecast's.
    starts = iter([*found["seen"].starts_s])
    simulation.workers.start_s = lambda _: next(starts, found["start_s"])
    return simulation.run()


def _then_silence(curve: Steps, after_s: float) -> Steps:
    """Return the curve with nothing after its end, so that what waits can be answered."""
    quiet = int(curve.lasts_s - after_s) // int(curve.step_s) + 1
    return replace(curve, rates=curve.rates + (0.0,) * quiet)


def compare(outcomes: List[Outcome], seen: Seen) -> Dict[str, float]:
    """Return forecast over seen, in the median: of the greatest lag, the time until all was answered, the mean wait."""
    ratios = [_ratios(outcome, seen) for outcome in outcomes]
    return {name: median(each[name] for each in ratios) for name in ratios[0]}


def _ratios(outcome: Outcome, seen: Seen) -> Dict[str, float]:
    answered = [each for each in outcome.intervals if each.answered > 1e-6]
    mean_s = sum(each.p50_ms * each.answered for each in answered) / outcome.answered / 1000
    return {
        "lag": outcome.most_waiting / seen.most_lag,
        "lasted": answered[-1].at_s / seen.lasted_s,
        "mean": mean_s / fmean(seen.latencies_s.values()),
    }
