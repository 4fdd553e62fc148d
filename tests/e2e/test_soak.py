"""`make soak` for a minute and a half: no answer is wrong, and the memory of no process keeps growing."""

import json
import subprocess
import sys

import pytest

from ops.bench.soak import growth
from ops.local.servers import ROOT

TIMEOUT_S = 600
# Growth over the run, as a share of the memory. The fit is rough after so few rounds: in a worker of 350 MB this bound
# finds a leak of 20 kB a turn. A smaller leak needs the full hour of `make soak`.
NOT_WITHOUT_END = 0.2


@pytest.mark.timeout(TIMEOUT_S + 30)
def test_short_soak_loses_nothing_and_bounds_memory(tmp_path):
    """90 s of `make soak`: no wrong answer, and the memory of no process grows by 20 %."""
    command = [sys.executable, "-m", "ops.bench.soak", "--minutes", "1.5", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    figures = json.loads((tmp_path / "soak.json").read_text()) if (tmp_path / "soak.json").is_file() else None
    assert figures, done.stderr[-3000:]
    assert figures["wrong"] == 0
    assert all(each["turns"] > 0 for each in figures["rounds"])
    assert max(figures["growth"].values()) < NOT_WITHOUT_END, figures["growth"]


def test_soak_extrapolates_memory_growth_from_the_second_half():
    """Memory that fills in the first half is no leak."""
    filling, leaking = [10 * number for number in range(50)], [1000 + number for number in range(50)]
    rounds = [{"rss_mb": dict.fromkeys(("worker", "gateway", "actions"), mb)} for mb in (*filling, *leaking)]
    assert growth(rounds)["worker"] == pytest.approx(100 / 1024.5, rel=0.01)
    assert growth([{"rss_mb": dict.fromkeys(("worker", "gateway", "actions"), 350)}] * 8)["worker"] == 0
