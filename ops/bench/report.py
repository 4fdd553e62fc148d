"""From results to what people read: the figures of DESIGN.md with bar and goal, and the tables."""

import statistics
from typing import Any, Dict, Iterable, List, Optional

from ops.bench.scripts import ORDERS, TALK

# Driver by which each system's own process is measured, and by which all of it is.
WORKER_ALONE = {"stock": "stock", "kefu": "kafka"}
WHOLE = {"stock": "stock", "kefu": "gateway"}
PROCESSES = ("worker", "gateway", "kafka", "redis", "actions", "shop", "load generator")
WRONG = ("lost", "failed", "silent", "doubled", "out_of_order", "unexpected")
HEAD = (
    *("system, way in", "conversation", "users", "turns", "a second", "p50", "p95", "p99 ms"),
    *(f"{name}, CPU ms" for name in PROCESSES),
    *("texts a poll", "action calls", "failed", "others", "reference ms", "unsent", "wrong"),
)
Scenario = Dict[str, Any]


def scenario(systems: Any, name: str, driver: str, script: str, turns: int, by_clock: bool = False) -> Optional[Any]:
    """Return a scenario's results, None if it was not run."""
    for each in systems.get(name, {}).get("scenarios", []):
        job = each["job"]
        found = (job["driver"], job["script"], job["turns"], job["rate"] is not None)
        if found == (driver, script, turns, by_clock):
            return each
    return None


def worker_ms(systems: Any, name: str, turns: int, script: str = TALK, nlu: bool = True) -> Optional[float]:
    """Return the worker's CPU ms a turn, with or without the part that it counted as NLU's."""
    found = scenario(systems, name, WORKER_ALONE[name], script, turns)
    if found is None or (not nlu and "nlu_cpu_ms_a_turn" not in found):
        return None
    return found["cpu_ms_a_turn"]["worker"] - (0.0 if nlu else found["nlu_cpu_ms_a_turn"])


def figures(systems: Any) -> List[Dict[str, Any]]:
    """Return the rows of DESIGN.md's "Figures to reach" that this measures, with bar and goal."""
    cost = worker_ms(systems, "stock", 5), worker_ms(systems, "kefu", 5, nlu=False)
    rows = [_row("worker CPU a turn without NLU and action calls (stock: with NLU), ms", *cost, 1.0, 0.3)]
    for turns in (50, 500):
        stock, kefu = (_growth(systems, name, turns) for name in ("stock", "kefu"))
        rows.append(_row(f"the same at {turns} turns, times that at 5", stock, kefu, 1.2, 1.05))
    for size, bar, goal in ((64, 1.0, 0.2), (8, 1.5, 0.3), (1, 3.0, 0.5)):
        stock, kefu = (systems.get(name, {}).get("nlu_cpu_ms", {}).get(str(size)) for name in ("stock", "kefu"))
        rows.append(_row(f"NLU CPU a message in polls of {size}, ms", stock, kefu, bar, goal))
    rate = [_of(scenario(systems, name, WHOLE[name], TALK, 5), "turns_a_second") for name in ("stock", "kefu")]
    rows.append(_row("answered turns a second, whole system", *rate, 500, 2000, more_is_better=True))
    p99 = [_of(scenario(systems, name, WHOLE[name], TALK, 5, True), "latency_ms", "99") for name in ("stock", "kefu")]
    rows.append(_row("p99 from POST to reply at 70 % of that, ms", *p99, 300, 100))
    accepted = _of(scenario(systems, "kefu", "accept", TALK, 5), "turns_a_second")
    rows.append(_row("accepted (202) messages a second, one gateway", None, accepted, 2000, 8000, more_is_better=True))
    starts = [_median(systems.get(name, {}).get("start_s")) for name in ("stock", "kefu")]
    rows.append(_row("start of the worker to ready, s", *starts, 15, 6))
    memory = [_most_memory(systems.get(name, {}).get("scenarios", [])) for name in ("stock", "kefu")]
    rows.append(_row("memory of the worker, most seen, MB", *memory, 900, 350))
    return rows


def table(found: Dict[str, Any]) -> str:
    """Return everything as Markdown."""
    systems, machine = found["systems"], found["machine"]
    every = [each for name in systems for each in systems[name]["scenarios"]]
    busy = max((each["others_cpu_share"] for each in every), default=0.0)
    parts = [
        "# Stock Rasa and Kefu" + (", short run" if found["short"] else ""),
        f"{machine['at']}, commit {machine['commit'][:12]}{' with changes' if machine['uncommitted_changes'] else ''}, "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB. "
        f"Other programs used up to {busy:.0%} of the machine meanwhile: if that is much, compare CPU, not rates and "
        f"times. {_pace(every)}",
        "## Figures to reach",
        drawn_table(("what", "stock", "Kefu", "first bar", "goal", "reached"), map(_figure_cells, found["figures"])),
        "## CPU of the process that runs Rasa, ms a turn",
        drawn_table(("conversation", "stock", "Kefu", "of it NLU", "stock / Kefu"), _cost_rows(systems)),
        "## Every scenario",
        drawn_table(HEAD, map(_scenario_cells, every)),
        "## Memory, MB before and after",
        drawn_table(("system, way in", "conversation", *PROCESSES), map(_memory_cells, every)),
    ]
    return "\n\n".join(parts) + "\n"


def wrong(each: Scenario) -> int:
    """Return how many messages of a scenario got no answer, a wrong one, or one too many."""
    return sum(each[name] for name in WRONG)


def _pace(every: List[Scenario]) -> str:
    """Return by how much the machine changed its pace while it measured."""
    took = [each["reference_ms"] for each in every]
    if not took:
        return ""
    return f"One same piece of Python took {min(took):.0f} to {max(took):.0f} ms of CPU: shared cores are slower."


def _row(what: str, stock: Any, kefu: Any, bar: float, goal: float, more_is_better: bool = False) -> Dict[str, Any]:
    reached = "not measured"
    if kefu is not None:
        sign = -1 if more_is_better else 1
        reached = "goal" if kefu * sign <= goal * sign else "bar" if kefu * sign <= bar * sign else "no"
    return {"what": what, "stock": stock, "kefu": kefu, "first_bar": bar, "goal": goal, "reached": reached}


def _growth(systems: Any, name: str, turns: int) -> Optional[float]:
    first, later = (worker_ms(systems, name, each, nlu=name == "stock") for each in (5, turns))
    return later / first if first and later else None


def _of(found: Any, *path: str) -> Optional[float]:
    for part in path:
        found = (found or {}).get(part)
    return found


def _median(values: Optional[List[float]]) -> Optional[float]:
    return statistics.median(values) if values else None


def _most_memory(found: List[Scenario]) -> Optional[float]:
    return max((each["rss_mb_after"].get("worker", 0.0) for each in found), default=None)


def _figure_cells(row: Dict[str, Any]) -> List[str]:
    return [row["what"], *(short(row[name]) for name in ("stock", "kefu", "first_bar", "goal")), row["reached"]]


def _cost_rows(systems: Any) -> Iterable[List[str]]:
    for script in (TALK, ORDERS):
        for turns in (5, 50, 500):
            stock, kefu = (worker_ms(systems, name, turns, script) for name in ("stock", "kefu"))
            if stock is None and kefu is None:
                continue
            rest = worker_ms(systems, "kefu", turns, script, nlu=False)
            nlu = None if kefu is None or rest is None else kefu - rest
            ratio = stock / kefu if stock and kefu else None
            yield [f"{script}, {turns} turns{_cut(systems, script, turns)}", *map(short, (stock, kefu, nlu, ratio))]


def _cut(systems: Any, script: str, turns: int) -> str:
    """Return which of the systems had no time to get to the end of these conversations."""
    cut = []
    for name in ("stock", "kefu"):
        found = scenario(systems, name, WORKER_ALONE[name], script, turns)
        if found and found["turns_reached"] < turns:
            cut.append(f"{name} cut at turn {found['turns_reached']}")
    return f" ({', '.join(cut)})" if cut else ""


def _name(each: Scenario) -> List[str]:
    job = each["job"]
    pace = f", {job['rate']:.0f} a second by the clock" if job["rate"] else ""
    return [f"{each['system']}, {job['driver']}", f"{job['script']}, {job['turns']} turns{pace}"]


def _scenario_cells(each: Scenario) -> List[str]:
    times = [short(each["latency_ms"].get(p)) for p in ("50", "95", "99")]
    cpu = [short(each["cpu_ms_a_turn"].get(name)) for name in PROCESSES]
    counted = [str(each["job"]["users"]), str(each["turns"]), short(each["turns_a_second"])]
    did = [short(each.get("texts_a_poll")), short(each["action_calls_a_turn"]), short(each["failed_action_calls"])]
    machine = [f"{each['others_cpu_share']:.0%}", short(each["reference_ms"])]
    return [*_name(each), *counted, *times, *cpu, *did, *machine, str(each["unsent"]), str(wrong(each))]


def _memory_cells(each: Scenario) -> List[str]:
    before, after = each["rss_mb_before"], each["rss_mb_after"]
    return [*_name(each), *(f"{before[p]:.0f} → {after[p]:.0f}" if p in before else "–" for p in PROCESSES)]


def short(value: Optional[float]) -> str:
    """Return a figure as people read it, a dash for one that was not measured."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def drawn_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown whose columns stand below each other."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    drawn = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    drawn.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(drawn)
