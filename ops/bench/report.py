"""Makes the results of a run into tables in Markdown."""

import itertools
import statistics
from typing import Any, Dict, Iterable, List, Optional, Sequence

from ops.bench import results
from ops.bench.reference import REFERENCE_MS
from ops.bench.results import PROCESSES, Scenario
from ops.bench.scripts import ORDERS, TALK
from ops.bench.spread import Spread, ratios, spread

HEAD = (
    *("system, way in", "conversation", "rounds", "users", "turns", "a second", "p50", "p95", "p99 ms"),
    *(f"{name}, CPU ms" for name in PROCESSES),
    *("texts a poll", "action calls", "failed", "others", "reference ms", "unsent", "wrong"),
)


def table(found: Dict[str, Any]) -> str:
    """Return all results of a run of `make bench` as Markdown."""
    systems = found["systems"]
    every = [each for name in systems for each in systems[name]["scenarios"]]
    parts = [
        "# Stock Rasa and Kefu" + (", short run" if found["short"] else ""),
        circumstances(found["machine"], every),
        "## Figures to reach",
        "Medians over the rounds, and in brackets their spread.",
        drawn_table(("what", "stock", "Kefu", "first bar", "goal", "reached"), map(_figure_cells, found["figures"])),
        "## CPU of the process that runs Rasa, ms a turn",
        drawn_table(("conversation", "stock", "Kefu", "of it NLU", "stock / Kefu"), _cost_rows(systems)),
        "## Every scenario, medians over its rounds",
        drawn_table(HEAD, map(_scenario_cells, grouped(every))),
        "## Memory, MB before the first round and after the last",
        drawn_table(("system, way in", "conversation", *PROCESSES), map(_memory_cells, grouped(every))),
    ]
    return "\n\n".join(parts) + "\n"


def circumstances(machine: Dict[str, Any], every: Sequence[Scenario]) -> str:
    """Return a sentence about the machine, the commit, and the load of other programs during the run."""
    busy = max((each["others_cpu_share"] for each in every), default=0.0)
    took = [each["reference_ms"] for each in every]
    pace = f" (it took {min(took):.0f} to {max(took):.0f} ms beside the scenarios)" if took else ""
    return (
        f"{machine['at']}, commit {machine['commit'][:12]}{' with changes' if machine['uncommitted_changes'] else ''}, "
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB. "
        f"Other programs used up to {busy:.0%} of the machine meanwhile: if that is much, compare CPU, not rates and "
        f"times. CPU is normalised: as if the reference piece of Python took {REFERENCE_MS:.0f} ms{pace}."
    )


def grouped(every: Iterable[Scenario]) -> List[List[Scenario]]:
    """Return groups of the same scenario in all rounds, in the order of the first round."""
    groups: Dict[Any, List[Scenario]] = {}
    for each in every:
        groups.setdefault((each["system"], results.kind(each)), []).append(each)
    return list(groups.values())


def _figure_cells(row: Dict[str, Any]) -> List[str]:
    spreads = [with_spread(row[name] and Spread(**row[name])) for name in ("stock", "kefu")]
    return [row["what"], *spreads, short(row["first_bar"]), short(row["goal"]), row["reached"]]


def _cost_rows(systems: Any) -> Iterable[List[str]]:
    for script, turns in itertools.product((TALK, ORDERS), (5, 50, 500)):
        stock, kefu = (results.worker_ms(systems, name, turns, script) for name in ("stock", "kefu"))
        if not stock and not kefu:
            continue
        rest = results.worker_ms(systems, "kefu", turns, script, nlu=False)
        nlu = [whole - other for whole, other in zip(kefu, rest, strict=True)]
        costs = [spread(each) for each in (stock, kefu, nlu)]
        yield [
            f"{script}, {turns} turns{_cut(systems, script, turns)}",
            *map(with_spread, (*costs, ratios(stock, kefu))),
        ]


def _cut(systems: Any, script: str, turns: int) -> str:
    """Return which systems did not reach the end of these conversations within the step's time."""
    cut = []
    for name in ("stock", "kefu"):
        found = results.scenarios(systems, name, results.WORKER_ALONE[name], script, turns)
        reached = min((each["turns_reached"] for each in found), default=turns)
        if reached < turns:
            cut.append(f"{name} cut at turn {reached}")
    return f" ({', '.join(cut)})" if cut else ""


def _name(group: Sequence[Scenario]) -> List[str]:
    job = group[0]["job"]
    pace = f", {_median(each['job']['rate'] for each in group):.0f} a second by the clock" if job["rate"] else ""
    return [f"{group[0]['system']}, {job['driver']}", f"{job['script']}, {job['turns']} turns{pace}"]


def _scenario_cells(group: Sequence[Scenario]) -> List[str]:
    def median(name: str) -> str:
        return short(_median(each[name] for each in group if name in each))

    times = [short(_median(each["latency_ms"][p] for each in group if each["latency_ms"])) for p in ("50", "95", "99")]
    cpu = [short(_median(results.cpu_ms(list(group), name))) for name in PROCESSES]
    counted = [str(len(group)), str(group[0]["job"]["users"]), median("turns"), median("turns_a_second")]
    did = [median("texts_a_poll"), median("action_calls_a_turn"), short(sum(e["failed_action_calls"] for e in group))]
    machine = [f"{_median(each['others_cpu_share'] for each in group):.0%}", median("reference_ms")]
    told = [str(sum(each["unsent"] for each in group)), str(sum(map(results.wrong, group)))]
    return [*_name(group), *counted, *times, *cpu, *did, *machine, *told]


def _memory_cells(group: Sequence[Scenario]) -> List[str]:
    before, after = group[0]["rss_mb_before"], group[-1]["rss_mb_after"]
    return [*_name(group), *(f"{before[p]:.0f} → {after[p]:.0f}" if p in before else "–" for p in PROCESSES)]


def _median(values: Iterable[float]) -> Optional[float]:
    found = list(values)
    return statistics.median(found) if found else None


def with_spread(value: Optional[Spread]) -> str:
    """Return a median with its spread in brackets; for one round only the value, for none a dash."""
    if value is None or value.rounds == 1:
        return short(None if value is None else value.median)
    return f"{short(value.median)} ({short(value.low)}–{short(value.high)})"


def short(value: Optional[float]) -> str:
    """Return a figure with three digits, a dash for None, which means that it was not measured."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def drawn_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table in Markdown with columns that are aligned in the source text too."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    drawn = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]
    drawn.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(drawn)
