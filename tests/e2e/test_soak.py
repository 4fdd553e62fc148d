"""`make soak` for a minute and a half: nothing is lost meanwhile, and no process grows without end."""

import json
import subprocess
import sys

import pytest

from ops.bench.soak import growth
from ops.local.servers import ROOT

TIMEOUT_S = 600
# Of a worker of 175 MB in 800 turns: what each turn leaves behind is less than 11 kB. Less takes the hour.
NOT_WITHOUT_END = 0.05


@pytest.mark.timeout(TIMEOUT_S + 30)
def test_under_load_nothing_is_lost_and_memory_stays(tmp_path):
    command = [sys.executable, "-m", "ops.bench.soak", "--minutes", "1.5", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
    found = json.loads((tmp_path / "soak.json").read_text()) if (tmp_path / "soak.json").is_file() else None
    assert found, done.stderr[-3000:]
    assert found["wrong"] == 0
    assert all(each["turns"] > 0 for each in found["rounds"])
    assert max(found["growth"].values()) < NOT_WITHOUT_END, found["growth"]


def test_growth_compares_the_last_quarter_with_the_one_before():
    rounds = [
        {"rss_mb": dict.fromkeys(("worker", "gateway", "actions"), mb)} for mb in (1, 9, 50, 70, 100, 100, 110, 110)
    ]
    assert growth(rounds) == dict.fromkeys(("worker", "gateway", "actions"), 0.1)
