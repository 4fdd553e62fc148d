"""The plan of a torment: the same by the same seed, each kind in its share; a run that was stopped goes on."""

from collections import Counter

import pytest

from ops.chaos.plan import MASTER, SHARES, WORKER, plan
from ops.chaos.report import Report
from ops.chaos.system import CLUSTER, SENTINEL


@pytest.mark.parametrize("form", list(SHARES))
def test_the_same_seed_gives_the_same_plan_and_another_one_another(form):
    assert plan(50, "1:0", form) == plan(50, "1:0", form)
    assert plan(50, "1:0", form) != plan(50, "1:1", form)
    assert len(plan(50, "1:0", form)) == 50


def test_a_thousand_in_rounds_of_fifty_kill_a_worker_a_hundred_times_and_masters_of_both_forms():
    kinds = Counter()
    for number in range(20):
        form = (SENTINEL, CLUSTER)[number % 2]
        made = Counter(fault.kind for fault in plan(50, f"1:{number}", form))
        kinds.update(made)
        assert made[MASTER] >= 1
    assert sum(kinds.values()) == 1000
    assert kinds[WORKER] >= 100


def test_a_run_that_was_stopped_goes_on_and_one_that_is_done_begins_anew(tmp_path):
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
