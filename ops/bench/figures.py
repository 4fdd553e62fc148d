"""The rows of DESIGN.md's "Figures to reach" that a run measures, with bar and goal."""

import itertools
from dataclasses import asdict
from typing import Any, Dict, Iterator, List, Optional, Sequence

from ops.bench import results
from ops.bench.scripts import ORDERS, TALK
from ops.bench.spread import Spread, ratios, spread

NAMES = ("stock", "kefu")
Row = Dict[str, Any]


def figures(systems: Any) -> List[Row]:
    """Return the rows with median and spread of each system; None for a figure that was not measured."""
    return list(itertools.chain(_worker(systems), _nlu(systems), _whole(systems), _actions(systems), _process(systems)))


def _worker(systems: Any) -> Iterator[Row]:
    cost = spread(results.worker_ms(systems, "stock", 5)), spread(results.worker_ms(systems, "kefu", 5, nlu=False))
    yield _row("talk: worker CPU a turn without NLU and action calls (stock: with NLU), ms", cost, 0.6, 0.3)
    for turns in (50, 500):
        growths = [_growth(systems, name, TALK, turns) for name in NAMES]
        yield _row(f"the same at {turns} turns, times that at 5", growths, 1.05, 1.0)
    growths = [_growth(systems, name, ORDERS, 500) for name in NAMES]
    yield _row("orders: worker CPU at 500 turns, times that at 5", growths, 1.05, 1.0)


def _nlu(systems: Any) -> Iterator[Row]:
    for size, bar, goal in ((64, 0.25, 0.15), (8, 0.4, 0.3), (1, 0.7, 0.5)):
        costs = [spread(results.nlu_ms(systems, name, size)) for name in NAMES]
        yield _row(f"NLU CPU a message in polls of {size}, ms", costs, bar, goal)


def _whole(systems: Any) -> Iterator[Row]:
    for script, least, most, slow, quick in ((ORDERS, 500, 800, 300, 150), (TALK, 950, 2000, 200, 100)):
        rates = [_of(systems, name, script, "turns_a_second") for name in NAMES]
        yield _row(f"{script}: answered turns a second, whole system", rates, least, most, more_is_better=True)
        p99 = [_of(systems, name, script, "latency_ms", "99", by_clock=True) for name in NAMES]
        yield _row(f"{script}: p99 from POST to reply at 70 % of that, ms", p99, slow, quick)


def _actions(systems: Any) -> Iterator[Row]:
    for process, what in (("actions", "action server"), ("shop", "shop")):
        found = [results.scenarios(systems, name, results.WORKER_ALONE[name], ORDERS, 5) for name in NAMES]
        costs = [spread(results.cpu_ms_a_call(each, process)) for each in found]
        yield _row(f"orders: CPU of the {what} an action call, ms", costs, 0.8, 0.4)


def _process(systems: Any) -> Iterator[Row]:
    accepted = results.scenarios(systems, "kefu", "accept", TALK, 5)
    rate = spread([each["turns_a_second"] for each in accepted])
    yield _row("accepted (202) messages a second, one gateway", (None, rate), 7000, 10_000, more_is_better=True)
    starts = [spread(systems.get(name, {}).get("start_s", [])) for name in NAMES]
    yield _row("start of the worker to ready, s", starts, 6, 4)
    memory = [_memory(systems, name) for name in NAMES]
    yield _row("memory of the worker, most seen in a scenario, MB", memory, 400, 350)


def _growth(systems: Any, name: str, script: str, turns: int) -> Optional[Spread]:
    """Return the CPU of a turn in a long conversation divided by that in a short one. Kefu's *talk* is without NLU."""
    nlu = name == "stock" or script == ORDERS
    later, first = (results.worker_ms(systems, name, each, script, nlu) for each in (turns, 5))
    return ratios(later, first)


def _of(systems: Any, name: str, script: str, *path: str, by_clock: bool = False) -> Optional[Spread]:
    values = []
    for each in results.scenarios(systems, name, results.WHOLE[name], script, 5, by_clock):
        value: Any = each
        for part in path:
            value = value.get(part)
        values.append(value)
    return spread(values)


def _memory(systems: Any, name: str) -> Optional[Spread]:
    """Return the most memory that the worker had after a scenario. It is one value, because memory only grows."""
    found = [each["rss_mb_after"].get("worker", 0.0) for each in systems.get(name, {}).get("scenarios", [])]
    return spread([max(found)] if found else [])


def _row(
    what: str, measured: Sequence[Optional[Spread]], bar: float, goal: float, more_is_better: bool = False
) -> Row:  # fmt: skip
    """Return a row. `measured` has the figures of stock Rasa and of Kefu, as in NAMES."""
    stock, kefu = measured
    reached = "not measured"
    if kefu is not None:
        sign = -1 if more_is_better else 1
        reached = "goal" if kefu.median * sign <= goal * sign else "bar" if kefu.median * sign <= bar * sign else "no"
    spreads = {"stock": stock and asdict(stock), "kefu": kefu and asdict(kefu)}
    return {"what": what, **spreads, "first_bar": bar, "goal": goal, "reached": reached}
