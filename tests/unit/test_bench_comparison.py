"""A bench from its plan to its tables, with stand-ins for the systems: every figure has its scenario."""

from pathlib import Path

import pytest

from ops.bench import comparison, measure, report, scenarios
from ops.bench.figures import figures
from ops.bench.plan import FULL, SHORT
from ops.bench.results import WRONG
from ops.bench.scripts import ORDERS

MS = {"stock": 40.0, "kefu": 2.0}


class System:
    """A stand-in for a system, which notes the calls that it gets."""

    jobs = property(lambda self: {})
    model = Path("model.tar.gz")
    start_s = 40.0

    def __init__(self, name, log):
        self.name = name
        self._log = log

    def __getattr__(self, action):
        def note():
            self._log.append(f"{self.name} {action}")
            return 6.0

        return note


@pytest.fixture
def log(monkeypatch):
    """The calls that the systems got, in order. Each scenario costs the CPU time in MS."""
    done = []

    def run(system, job):
        asked = {name: getattr(job, name) for name in ("driver", "users", "turns", "script", "rate")}
        done.append(f"{system.name} {job.driver}")
        return {
            **dict.fromkeys(WRONG, 0), "system": system.name, "job": asked, "turns": 100, "turns_a_second": 100.0,
            "turns_reached": job.turns, "unsent": 0, "latency_ms": {"50": 1.0, "95": 2.0, "99": 3.0},
            "cpu_ms_a_turn": {"worker": MS[system.name], "actions": 1.0, "shop": 0.5}, "reference_ms": 42.0,
            "rss_mb_before": {"worker": 300.0}, "rss_mb_after": {"worker": 310.0}, "others_cpu_share": 0.1,
            "action_calls_a_turn": 0.8 if job.script == ORDERS else 0.0, "failed_action_calls": 0,
            **({"nlu_cpu_ms_a_turn": 0.5, "texts_a_poll": 8.0} if system.name == "kefu" else {}),
        }  # fmt: skip

    monkeypatch.setattr(scenarios, "run", run)
    monkeypatch.setattr(comparison, "StockSystem", lambda *_: System("stock", done))
    monkeypatch.setattr(comparison, "KefuSystem", lambda *_: System("kefu", done))
    nlu = {"cpu_ms": {"64": 0.2, "8": 0.3, "1": 0.6}, "reference_ms": 42.0}
    monkeypatch.setattr(comparison, "_nlu_once", lambda name, model: nlu)
    return done


def compared(plan, only, tmp_path):
    found = {"short": plan is SHORT, "machine": measure.machine()}
    found["systems"] = comparison.compare(plan, only, tmp_path, {})
    found["figures"] = figures(found["systems"])
    return found


def test_full_bench_has_a_value_for_every_figure(log, tmp_path):
    """Stock Rasa has no figure for a gateway."""
    found = compared(FULL, ("stock", "kefu"), tmp_path)
    assert [row["what"] for row in found["figures"] if row["kefu"] is None] == []
    assert [row["what"] for row in found["figures"] if row["stock"] is None] == [
        "accepted (202) messages a second, one gateway"
    ]
    table = report.table(found)
    assert "| talk, 500 turns " in table and "20 (20–20)" in table


def test_bench_runs_both_systems_until_the_rounds_are_over(log, tmp_path):
    compared(SHORT, ("stock", "kefu"), tmp_path)
    assert log[:2] == ["stock start", "kefu start"] and log[-2:] == ["stock stop", "kefu stop"]
    assert log.index("kefu without_worker") < log.index("kefu accept")
    assert "kefu kafka" not in log[log.index("kefu restart_worker") :]


@pytest.mark.parametrize("only", ["stock", "kefu"])
def test_bench_of_one_system_leaves_the_others_columns_empty(log, tmp_path, only):
    found = compared(SHORT, (only,), tmp_path)
    other = {"stock": "kefu", "kefu": "stock"}[only]
    assert all(row[other] is None for row in found["figures"])
    assert report.table(found)


def test_bench_stops_both_systems_when_a_scenario_fails(log, tmp_path, monkeypatch):
    def fail(system, job):
        raise RuntimeError("a process ended")

    monkeypatch.setattr(scenarios, "run", fail)
    with pytest.raises(RuntimeError, match="a process ended"):
        compared(SHORT, ("stock", "kefu"), tmp_path)
    assert log[-2:] == ["stock stop", "kefu stop"]
