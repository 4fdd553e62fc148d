"""The plan of a chaos run: one seed gives one plan, each kind has its share. A stopped run continues."""

from collections import Counter

import pytest

from ops.chaos.plan import MASTER, SHARES, WORKER, plan
from ops.chaos.report import Report
from ops.chaos.system import CLUSTER, SENTINEL


@pytest.mark.parametrize("form", list(SHARES))
def test_same_seed_gives_the_same_chaos_plan(form):
    assert plan(50, "1:0", form) == plan(50, "1:0", form)
    assert plan(50, "1:0", form) != plan(50, "1:1", form)
    assert len(plan(50, "1:0", form)) == 50


def test_1000_planned_kills_include_workers_and_redis_masters():
    """In rounds of 50, at least 100 kill a worker, and every round kills a Redis master, in both forms."""
    kinds = Counter()
    for number in range(20):
        form = (SENTINEL, CLUSTER)[number % 2]
        faults = Counter(fault.kind for fault in plan(50, f"1:{number}", form))
        kinds.update(faults)
        assert faults[MASTER] >= 1
    assert sum(kinds.values()) == 1000
    assert kinds[WORKER] >= 100


def test_stopped_chaos_run_continues_and_finished_one_restarts(tmp_path):
    """`results/chaos.json` has the rounds of a run. Another seed, or a finished run, begins with none."""
    path = tmp_path / "chaos.json"
    done = {"kills": {WORKER: 50}, "counts": {"accepted": 7}, "breaches": [], "form": SENTINEL}
    first = Report(path, "1", 100, 50, [SENTINEL])
    first.add(done)
    assert Report(path, "2", 100, 50, [SENTINEL]).rounds == []
    second = Report(path, "1", 100, 50, [SENTINEL])
    assert second.rounds == [done]
    second.add({**done, "breaches": [{"kind": "lost", "conversation": "c", "message_id": "m", "seen": "s"}]})
    assert "100  kills in 2 rounds" in second.table()
    assert "lost: round 2, c m: s" in second.table()
    assert Report(path, "1", 100, 50, [SENTINEL]).rounds == []
