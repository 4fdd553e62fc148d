"""The rounds of a bench: which system runs which step, in which order, and at which rate by the clock."""

from typing import ClassVar

import pytest

from ops.bench import results, scenarios
from ops.bench.plan import FULL, SHORT, Step, Way, duel
from ops.bench.rounds import SHARE_OF_PEAK, Rounds
from ops.bench.scripts import ORDER_NUMBERS, ORDERS, TALK


class System:
    """A stand-in for a system that gets no calls."""

    jobs: ClassVar = {}

    def __init__(self, name):
        self.name = name


@pytest.fixture
def jobs(monkeypatch):
    """The jobs of the systems, in order. A system reaches 100 turns a second at first, and 10 more in each round."""
    done = []

    def run(system, job):
        done.append((system.name, job))
        rate = 90.0 + 10 * sum(name == system.name and each.rate is None for name, each in done)
        about = {"driver": job.driver, "script": job.script, "turns": job.turns, "rate": job.rate}
        return {
            "system": system.name, "job": about, "turns_a_second": rate, "latency_ms": {}, "cpu_ms_a_turn": {},
            "reference_ms": 42.0, "others_cpu_share": 0.0,
        }  # fmt: skip

    monkeypatch.setattr(scenarios, "run", run)
    return done


def step(count, by_clock=False):
    return Step(TALK, 5, {name: Way("gateway", 8, 16) for name in ("a", "b")}, 10, count, by_clock)


def test_bench_systems_take_turns_in_beginning_a_round(jobs):
    Rounds([System("a"), System("b")]).run([step(3)])
    assert [name for name, _ in jobs] == ["a", "b", "b", "a", "a", "b"]


def test_step_runs_in_its_number_of_rounds_on_its_systems(jobs):
    alone = Step(ORDERS, 5, {"b": Way("kafka", 1, 1)}, 10, 1)
    measured = Rounds([System("a"), System("b")])
    measured.run([step(2), alone])
    assert [(name, job.script) for name, job in jobs] == [
        ("a", TALK), ("b", TALK), ("b", ORDERS), ("b", TALK), ("a", TALK),
    ]  # fmt: skip
    assert [each["round"] for each in measured.results["b"]] == [0, 0, 1]


def test_each_round_gives_all_systems_the_same_new_customers(jobs):
    Rounds([System("a"), System("b")]).run([step(3)])
    firsts = {name: [job.first for other, job in jobs if other == name] for name in ("a", "b")}
    assert firsts["a"] == firsts["b"]
    assert [later - first for first, later in zip(firsts["a"], firsts["a"][1:], strict=False)] == [16, 16]


def test_rate_by_the_clock_is_a_share_of_the_reached_rate(jobs):
    Rounds([System("a")], most_idle=1000).run([step(2), step(2, by_clock=True)])
    assert [job.rate for _, job in jobs] == [None, SHARE_OF_PEAK * 100, None, SHARE_OF_PEAK * 105]


@pytest.mark.parametrize("steps", [FULL.steps, SHORT.steps, duel(("stock", "kefu"), 25)], ids=["full", "short", "duel"])
def test_bench_plans_need_no_more_customers_than_have_orders(steps):
    """By the clock a system may need `most_idle` of them, and as many again at 1,000 turns a second for 10 s."""
    for name in ("stock", "kefu"):
        wanted = [
            (2000 if each.by_clock else each.ways[name].conversations) * each.rounds
            for each in steps
            if each.script == ORDERS and name in each.ways
        ]
        assert sum(wanted) + 32 <= ORDER_NUMBERS


def test_cpu_times_are_normalised_by_the_reference():
    """A machine that takes twice as long for the reference counts half of its CPU time."""
    slow = {"cpu_ms_a_turn": {"worker": 4.0}, "reference_ms": 84.0, "action_calls_a_turn": 0.5}
    assert results.cpu_ms([slow], "worker") == [2.0]
    assert results.cpu_ms_a_call([slow], "worker") == [4.0]
    assert results.cpu_ms([slow], "gateway") == []


def test_scenario_without_an_answer_prints_its_line(jobs, capsys):
    Rounds([System("a")]).run([step(1)])
    assert "round 1, a: gateway, talk, 5 turns" in capsys.readouterr().out
