"""`make bench AGAINST=COMMIT`: measures this build of Kefu and the build of a commit, in turn in each round.

Each build has its own action server and shop, with its own code: a shared one could not be compared. Both builds get
the same messages of the same customers, by HTTP.
"""

import json
from pathlib import Path
from typing import Any, Dict, Iterable, List, Optional, Tuple

from ops.bench import report, results
from ops.bench.build import Build
from ops.bench.checkout import checked_out, commit_of
from ops.bench.plan import duel
from ops.bench.rounds import Rounds
from ops.bench.scripts import ORDERS, TALK
from ops.bench.spread import Spread, ratios, spread
from ops.local.servers import ROOT

TODAY = "this build"
SHORT_ROUNDS, FULL_ROUNDS = 9, 25  # 9 are the fewest from which the spread leaves out the outermost rounds
# The compared processes, each with a conversation that makes the process work.
JUDGED: Tuple[Tuple[str, str], ...] = (
    ("worker", TALK), ("worker", ORDERS), ("gateway", TALK), ("gateway", ORDERS), ("actions", ORDERS),
)  # fmt: skip
CALLED = {"worker": "worker", "gateway": "gateway", "actions": "action server"}
ALIKE = 0.03  # a difference up to this counts as none, because a build compared with itself differs as much
WIDEST = 0.2  # if a ratio's range contains 1 and is wider than this, it doesn't show whether there is a difference


def measure(revision: str, short: bool, folder: Path, out: Path, found: Dict[str, Any]) -> None:
    """Measure, print, write `against.json` and `against.md`.

    Raises:
        BuildError: the commit is unknown, or one of the builds can't be made ready or started.
    """
    commit = commit_of(revision)
    then = commit[:7]
    steps = duel((TODAY, then), SHORT_ROUNDS if short else FULL_ROUNDS)
    with checked_out(commit, folder) as root:
        builds = [Build(TODAY, ROOT, folder / "this"), Build(then, root, folder / "then")]
        try:
            for build in builds:
                build.start()
                print(f"{build.name} is ready", flush=True)
            rounds = Rounds(builds)
            rounds.warm_up(steps)
            rounds.run(steps)
        finally:
            for build in builds:
                build.stop()
    found["against"] = commit
    found["systems"] = {name: {"scenarios": each} for name, each in rounds.results.items()}
    table = _table(found, then)
    (out / "against.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / "against.md").write_text(table)
    print(table)


def verdict(ratio: Optional[Spread]) -> str:
    """Return in words the meaning of a ratio: this build's CPU to the other's. None means that nothing was measured."""
    if ratio is None:
        return "not measured"
    apart = ratio.low > 1 or ratio.high < 1
    if apart and abs(ratio.median - 1) > ALIKE:
        return f"{abs(1 - ratio.median):.0%} {'more' if ratio.median > 1 else 'less'}"
    if not apart and ratio.high - ratio.low > WIDEST:
        return "the spread is too wide to tell: take a quieter machine, or more rounds (without SHORT=1)"
    return "no difference"


def _table(found: Dict[str, Any], then: str) -> str:
    systems = found["systems"]
    every = [each for name in systems for each in systems[name]["scenarios"]]
    head = ("process", "conversation", f"{then}, ms a turn", f"{TODAY}, ms a turn", "ratio", "this build takes")
    parts = [
        f"# This build against {then}" + (", short run" if found["short"] else ""),
        report.circumstances(found["machine"], every),
        "Medians over the rounds, and in brackets the range that the true one lies in with 95 %. A ratio is of one "
        f"and the same round. Differences up to {ALIKE:.0%} aren't told.",
        report.drawn_table(head, _rows(systems, then)),
        *_warnings(every),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(systems: Any, then: str) -> Iterable[List[str]]:
    for process, script in JUDGED:
        found = [results.scenarios(systems, name, "gateway", script, 5) for name in (then, TODAY)]
        other, this = (results.cpu_ms(each, process) for each in found)
        ratio = ratios(this, other)
        costs = [report.with_spread(spread(each)) for each in (other, this)]
        yield [CALLED[process], script, *costs, report.with_spread(ratio), verdict(ratio)]


def _warnings(every: List[results.Scenario]) -> Iterable[str]:
    """Yield a warning for each build with wrong or missing answers: it had less to do, so the ratios are worthless."""
    for name in sorted({each["system"] for each in every}):
        wrong = sum(results.wrong(each) for each in every if each["system"] == name)
        failed = sum(each["failed_action_calls"] for each in every if each["system"] == name)
        if wrong or failed:
            yield f"**{name}: {wrong} answers were wrong or missing, {failed:.0f} action calls failed.** Don't compare."
