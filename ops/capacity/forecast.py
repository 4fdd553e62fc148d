"""The short real run and its forecast. `measure` takes figures from it, and a test compares forecast and run."""

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
BURSTS, JOINS = 3, 3  # repetitions: a stall of the machine spoils at most one
SHARES = (0.5, 2.5, 2.5, 2.5, 0.5)  # load of each step, as a multiple of one worker's rate
STEP_S = 8.0
SEEDS = 9
# A night within a minute: the controller runs five times as often as usual, and removes pods early.
SCALING = Scaling(
    low=1,
    high=4,
    up=Rules((Policy(PERCENT, 100, 3),)),
    down=Rules((Policy(PODS, 1, 6),), window_s=12),
    sync_s=3,
)
# A forecast of workers alone needs only the figures that the real run measures; the others are 0.
ALONE = Measured(
    **dict.fromkeys(Measured.__dataclass_fields__, 0.0),
)


def run(directory: Path) -> Dict[str, Any]:
    """Measure one worker and a join, then run the load on real workers.

    Returns:
        `rate`, `start_s`, `rebalance_s`, `curve`, `threshold` and `seen`.
    """
    real = RealRun(directory, PLACES, TURN_S, PARTITIONS)
    try:
        real.start()
        real.worker_rate(BURST // 2)  # warm-up
        rate = real.worker_rate(BURST, BURSTS)
        join = real.usual_join_s(JOINS)
        curve = Steps("steps", STEP_S * len(SHARES), rate, rates=tuple(rate * share for share in SHARES), step_s=STEP_S)
        threshold = max(1, int(rate))
        seen = real.follow(curve, SCALING, threshold)
    finally:
        real.stop()
    return {"rate": rate, **join, "curve": curve, "threshold": threshold, "seen": seen}


def forecasts(run_data: Dict[str, Any]) -> List[Outcome]:
    """Return the simulator's outcomes for the same load and the measured figures, one for each of SEEDS seeds."""
    return [_forecast(run_data, seed) for seed in range(SEEDS)]


def _forecast(run_data: Dict[str, Any], seed: int) -> Outcome:
    measured = replace(
        ALONE,
        worker_ms=1.0,
        gateway_ms=0.001,
        concurrent_ms=PLACES / run_data["rate"] * 1000,
        start_s=run_data["start_s"],
        rebalance_s=run_data["rebalance_s"],
        commit_s=1.0,
        base_p50_ms=PLACES / run_data["rate"] * 1000,
        base_p99_ms=PLACES / run_data["rate"] * 2000,
    )
    idle = Kind(Scaling(low=1, high=1))
    shape = Shape(
        worker=Kind(SCALING),
        gateway=idle,
        actions=idle,
        partitions=PARTITIONS,
        lag_threshold=run_data["threshold"],
        lag_s=0.0,
        connections_a_gateway=1,
        late_ms=1e9,
        place_s=0.0,
        turns_at_once=PLACES,
    )
    curve = replace(run_data["curve"], lasts_s=run_data["curve"].lasts_s + 60)
    curve = _then_silence(curve, run_data["curve"].lasts_s)
    simulation = Simulation(curve, measured, shape, 1, step_s=0.25, every_s=1.0, seed=seed)
    # The real start times are taken over: they depend on how many processes share this machine's two cores.
    starts = iter([*run_data["seen"].starts_s])
    simulation.workers.start_s = lambda _: next(starts, run_data["start_s"])
    return simulation.run()


def _then_silence(curve: Steps, after_s: float) -> Steps:
    """Return the curve with a rate of 0 after its end, so that waiting messages can be answered."""
    quiet = int(curve.lasts_s - after_s) // int(curve.step_s) + 1
    return replace(curve, rates=curve.rates + (0.0,) * quiet)


def compare(outcomes: List[Outcome], seen: Seen) -> Dict[str, float]:
    """Return the median ratios of forecast to real run: greatest lag, time until the last answer, mean latency."""
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
