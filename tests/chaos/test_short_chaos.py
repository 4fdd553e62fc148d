"""A short version of `make chaos`: 25 kills on one broker and one Redis break no promise."""

import pytest

from ops.chaos import plan
from ops.chaos.round import run
from ops.chaos.system import SINGLE

KILLS = 25
SEED = "short"


@pytest.mark.timeout(900)
def test_25_kills_break_no_promise(tmp_path):
    """The chaos runner kills processes and cuts connections under load, then checks every message."""
    result = run(SINGLE, KILLS, SEED, tmp_path, print)
    assert result.verdict.breaches == []
    assert sum(result.kills.values()) == KILLS
    assert result.kills[plan.WORKER] >= 3
    for kind in (plan.GATEWAY, plan.ACTIONS_KILL, plan.CUT_REDIS, plan.CUT_GATEWAY, plan.CUT_ACTIONS, plan.REBALANCE):
        assert result.kills[kind] >= 1, kind
    assert result.verdict.counts["accepted"] > 100
