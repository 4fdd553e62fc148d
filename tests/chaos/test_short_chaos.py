"""The short version of `make chaos`: 25 kills on one broker and one Redis, and no promise broken."""

import pytest

from ops.chaos import plan
from ops.chaos.round import run
from ops.chaos.system import SINGLE

KILLS = 25
SEED = "short"


@pytest.mark.timeout(900)
def test_25_kills_break_no_promise(tmp_path):
    done = run(SINGLE, KILLS, SEED, tmp_path, print)
    assert done.verdict.breaches == []
    assert sum(done.kills.values()) == KILLS
    assert done.kills[plan.WORKER] >= 3
    for kind in (plan.GATEWAY, plan.ACTIONS_KILL, plan.CUT_REDIS, plan.CUT_GATEWAY, plan.CUT_ACTIONS, plan.REBALANCE):
        assert done.kills[kind] >= 1, kind
    assert done.verdict.counts["accepted"] > 100
