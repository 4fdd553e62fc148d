"""A load run is judged by its thresholds, and by significant and large differences to the accepted run."""

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


def test_good_load_run_breaks_no_threshold():
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
def test_load_run_that_breaks_a_threshold_is_reported_by_its_name(how, name):
    assert [problem.split()[0] for problem in verdict.broken(figures(**how), THRESHOLDS)] == [name]


def test_load_run_without_messages_breaks_a_threshold():
    assert verdict.broken(verdict.summary({**seen(), "said": []}), THRESHOLDS)


def test_two_load_runs_of_one_system_show_no_regression():
    assert not any(verdict.regressions(figures(seed=n), figures(seed=n + 50)) for n in range(20))


def test_35_percent_slower_is_a_regression_and_8_percent_is_none():
    assert verdict.regressions(figures(ms=135), figures(ms=100, seed=2))
    assert not verdict.regressions(figures(ms=108), figures(ms=100, seed=2))
    assert not verdict.regressions(figures(ms=70), figures(ms=100, seed=2))


def test_load_run_of_20_s_is_too_short_to_compare():
    assert "compared" in verdict.regressions(figures(seconds=20), figures())[0]


def test_mann_whitney_test_gives_textbook_probabilities():
    # Exact one-sided P for complete separation: 1 / C(10, 5) = 0.004, the approximation's 0.006.
    assert verdict.greater([6, 7, 8, 9, 10], [1, 2, 3, 4, 5]) == pytest.approx(0.006, abs=0.001)
    assert verdict.greater([1, 2, 3, 4, 5], [6, 7, 8, 9, 10]) > 0.99
    assert verdict.greater([1, 1, 1], [1, 1, 1]) == 1.0


def test_problems_of_a_load_run_are_sent_to_the_webhook(hook):
    url, requests = hook
    assert command.judge(figures(), [], url) == command.GOOD and not requests
    assert command.judge(figures(), ["p99_ms is 900"], url) == command.WORSE
    assert requests[0]["problems"] == ["p99_ms is 900"] and "steps" in requests[0]["text"]


@pytest.fixture
def load(tmp_path, hook):
    """Return a function that runs the load tool as on a machine that the thresholds are not for."""
    folders = ["--results", str(tmp_path / "results"), "--accepted", str(tmp_path / "accepted")]
    return lambda verb="run": command.main([verb, "steps", "--no-thresholds", "--webhook", hook[0], *folders])


@pytest.mark.parametrize(
    "how, name", [({"bad": 1200}, "failed"), ({"streams": (3, 0)}, "silent_streams"), ({"ms": 9000.0}, None)]
)
def test_no_thresholds_option_still_judges_failed_messages(monkeypatch, load, hook, how, name):
    monkeypatch.setattr(command, "run", lambda *_: figures(**how))
    assert load() == (command.WORSE if name else command.GOOD)
    assert [problem.split()[0] for body in hook[1] for problem in body["problems"]] == ([name] if name else [])


def test_load_run_without_an_accepted_one_is_reported(monkeypatch, load, hook, capsys):
    monkeypatch.setattr(command, "run", lambda *_: figures())
    assert load() == command.GOOD
    assert "nothing to compare with" in hook[1][0]["text"] and hook[1][0]["problems"] == []
    assert "nothing to compare with" in capsys.readouterr().err
    assert load("accept") == command.GOOD and load() == command.GOOD
    assert len(hook[1]) == 1


def test_accepted_slowdown_is_no_regression_in_the_next_run(monkeypatch, load):
    monkeypatch.setattr(command, "run", lambda *_: figures())
    assert (load(), load("accept")) == (command.GOOD, command.GOOD)
    monkeypatch.setattr(command, "run", lambda *_: figures(ms=200.0))
    assert (load(), load("accept"), load()) == (command.WORSE, command.GOOD, command.GOOD)


def test_load_run_that_crashed_leaves_nothing_to_accept(monkeypatch, load, capsys):
    def broken(*_):
        raise RuntimeError("Locust ended with 1")

    monkeypatch.setattr(command, "run", lambda *_: figures())
    load()
    monkeypatch.setattr(command, "run", broken)
    assert (load(), load("accept")) == (command.UNRUN, command.UNRUN)
    assert "no run to accept" in capsys.readouterr().err


def test_load_run_that_crashed_is_reported_to_the_webhook(monkeypatch, load, hook):
    def broken(*_):
        raise RuntimeError("Locust ended with 1")

    monkeypatch.setattr(command, "run", broken)
    assert load() == command.UNRUN
    assert "could not be run" in hook[1][0]["text"] and "Locust ended with 1" in hook[1][0]["problems"][0]


@pytest.mark.parametrize("path", [".gitlab-ci.yml", ".github/workflows/nightly.yml"])
def test_every_load_scenario_is_in_the_nightly_workflows(path):
    (matrix,) = re.findall(r"(?i)scenario: \[([a-z, ]+)\]", (ROOT / path).read_text())
    # `smoke` is for a developer's machine.
    assert sorted(matrix.split(", ")) == sorted(set(scenario.names()) - {"smoke"})


def test_unreachable_webhook_changes_no_verdict(capsys):
    """The command says that it could not report."""
    assert command.judge(figures(), ["x"], "http://127.0.0.1:9/") == command.WORSE
    assert "webhook was not told" in capsys.readouterr().err


@pytest.mark.parametrize("name", scenario.names())
def test_every_load_scenario_can_be_read_and_scaled(name):
    whole, small = scenario.load(name), scenario.load(name, 0.01)
    assert small.rate(whole.lasts_s / 2) == pytest.approx(whole.rate(whole.lasts_s / 2) / 100)
    assert small.customers >= 1 and whole.rate(whole.lasts_s + 1) == 0


def test_rate_of_a_scenario_is_linear_between_its_stages():
    surge = scenario.load("surge")
    assert [surge.rate(at) for at in (0, 119, 135, 150, 700)] == [80, 80, 640, 1200, 1200]


def test_scenario_with_an_unknown_threshold_is_refused(tmp_path):
    path = tmp_path / "scenarios.toml"
    text = "[x]\nabout = ''\ncustomers = 1\nstreams = 1\nstages = [[1, 1]]\nthresholds = {p98_ms = 1}\n"
    path.write_text(text)
    with pytest.raises(ValueError, match="thresholds"):
        scenario.load("x", path=path)
