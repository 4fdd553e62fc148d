"""A run is judged by its thresholds, and by significant and large differences to the accepted run."""

import random
import re

import pytest

from ops.load import __main__ as command
from ops.load import scenario, verdict
from ops.local.servers import ROOT

THRESHOLDS = {"p50_ms": 150, "p99_ms": 600, "failed": 0.001, "silent_streams": 0.0}


def seen(ms=100.0, seconds=120, bad=0, unsaid=0, streams=(3, 2), seed=1, stall=None):
    chance = random.Random(seed)
    said = [[n / 10, ms * chance.lognormvariate(0, 0.3), True] for n in range(seconds * 10)]
    if stall:
        said = [[at, took + 5000 if stall[0] <= at < stall[1] else took, good] for at, took, good in said]
    return {
        "scenario": "steps",
        "said": said + [[1.0, 9.0, False]] * bad,
        "unsaid": unsaid,
        "streams": list(streams),
    }


def figures(**how):
    return verdict.summary(seen(**how))


def test_a_good_run_breaks_nothing():
    assert verdict.broken(figures(), THRESHOLDS) == []


@pytest.mark.parametrize(
    "how, name",
    [
        ({"ms": 300.0}, "p50_ms"),
        ({"stall": (50, 55)}, "p99_ms"),
        ({"bad": 5}, "failed"),
        ({"unsaid": 5}, "failed"),
        ({"streams": (3, 0)}, "silent_streams"),
    ],
)
def test_each_threshold_can_be_broken(how, name):
    assert [problem.split()[0] for problem in verdict.broken(figures(**how), THRESHOLDS)] == [name]


def test_run_without_messages_is_broken():
    assert verdict.broken(verdict.summary({**seen(), "said": []}), THRESHOLDS)


def test_two_runs_of_one_system_do_not_differ():
    assert not any(verdict.regressions(figures(seed=n), figures(seed=n + 50)) for n in range(20))


def test_a_third_more_is_worse_and_a_tenth_more_is_not():
    assert verdict.regressions(figures(ms=135), figures(ms=100, seed=2))
    assert not verdict.regressions(figures(ms=108), figures(ms=100, seed=2))
    assert not verdict.regressions(figures(ms=70), figures(ms=100, seed=2))


def test_too_short_a_run_is_said_to_be_too_short():
    assert "compared" in verdict.regressions(figures(seconds=20), figures())[0]


def test_mann_whitney_gives_the_textbook_probabilities():
    # Exact one-sided P for complete separation: 1 / C(10, 5) = 0.004, the approximation's 0.006.
    assert verdict.greater([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]) == pytest.approx(0.006, abs=0.001)
    assert verdict.greater([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) > 0.99
    assert verdict.greater([1, 1, 1], [1, 1, 1]) == 1.0


def test_the_webhook_is_told_of_what_is_wrong(hook):
    url, told = hook
    assert command.judge(figures(), [], url) == command.GOOD and not told
    assert command.judge(figures(), ["p99_ms is 900"], url) == command.WORSE
    assert told[0]["problems"] == ["p99_ms is 900"] and "steps" in told[0]["text"]


@pytest.fixture
def load(tmp_path, hook):
    """Runs the command on another kind of machine than that of the thresholds."""
    folders = ["--results", str(tmp_path / "results"), "--accepted", str(tmp_path / "accepted")]
    return lambda verb="run": command.main([verb, "steps", "--no-thresholds", "--webhook", hook[0], *folders])


@pytest.mark.parametrize(
    "how, name", [({"bad": 1200}, "failed"), ({"streams": (3, 0)}, "silent_streams"), ({"ms": 9000.0}, None)]
)
def test_no_thresholds_still_judges_failed_messages(monkeypatch, load, hook, how, name):
    monkeypatch.setattr(command, "run", lambda *_: figures(**how))
    assert load() == (command.WORSE if name else command.GOOD)
    assert [problem.split()[0] for body in hook[1] for problem in body["problems"]] == ([name] if name else [])


def test_run_without_an_accepted_one_is_reported(monkeypatch, load, hook, capsys):
    monkeypatch.setattr(command, "run", lambda *_: figures())
    assert load() == command.GOOD
    assert "nothing to compare with" in hook[1][0]["text"] and hook[1][0]["problems"] == []
    assert "nothing to compare with" in capsys.readouterr().err
    assert load("accept") == command.GOOD and load() == command.GOOD
    assert len(hook[1]) == 1


def test_an_intended_slowdown_can_be_accepted(monkeypatch, load):
    monkeypatch.setattr(command, "run", lambda *_: figures())
    assert (load(), load("accept")) == (command.GOOD, command.GOOD)
    monkeypatch.setattr(command, "run", lambda *_: figures(ms=200.0))
    assert (load(), load("accept"), load()) == (command.WORSE, command.GOOD, command.GOOD)


def test_failed_run_leaves_nothing_to_accept(monkeypatch, load, capsys):
    def broken(*_):
        raise RuntimeError("Locust ended with 1")

    monkeypatch.setattr(command, "run", lambda *_: figures())
    load()
    monkeypatch.setattr(command, "run", broken)
    assert (load(), load("accept")) == (command.UNRUN, command.UNRUN)
    assert "no run to accept" in capsys.readouterr().err


def test_the_webhook_is_told_of_a_night_without_a_run(monkeypatch, load, hook):
    def broken(*_):
        raise RuntimeError("Locust ended with 1")

    monkeypatch.setattr(command, "run", broken)
    assert load() == command.UNRUN
    assert "could not be run" in hook[1][0]["text"] and "Locust ended with 1" in hook[1][0]["problems"][0]


@pytest.mark.parametrize("path", [".gitlab-ci.yml", ".github/workflows/nightly.yml"])
def test_every_scenario_has_its_night(path):
    (matrix,) = re.findall(r"(?i)scenario: \[([a-z, ]+)\]", (ROOT / path).read_text())
    assert sorted(matrix.split(", ")) == sorted(set(scenario.names()) - {"smoke"})  # which is for one's own machine


def test_unreachable_webhook_changes_no_verdict(capsys):
    assert command.judge(figures(), ["x"], "http://127.0.0.1:9/") == command.WORSE
    assert "webhook was not told" in capsys.readouterr().err


@pytest.mark.parametrize("name", scenario.names())
def test_every_scenario_can_be_read_and_scaled(name):
    whole, small = scenario.load(name), scenario.load(name, 0.01)
    assert small.rate(whole.lasts_s / 2) == pytest.approx(whole.rate(whole.lasts_s / 2) / 100)
    assert small.customers >= 1 and whole.rate(whole.lasts_s + 1) == 0


def test_rates_go_in_a_line_from_stage_to_stage():
    surge = scenario.load("surge")
    assert [surge.rate(at) for at in (0, 119, 135, 150, 700)] == [80, 80, 640, 1200, 1200]


def test_unknown_threshold_is_refused(tmp_path):
    path = tmp_path / "scenarios.toml"
    text = "[x]\nabout = ''\ncustomers = 1\nstreams = 1\nstages = [[1, 1]]\nthresholds = {p98_ms = 1}\n"
    path.write_text(text)
    with pytest.raises(ValueError, match="thresholds"):
        scenario.load("x", path=path)
