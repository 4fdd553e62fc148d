"""Run system tests that failed once more, after all other tests: a pytest plugin (`-p tests.again`).

A system test starts many processes, and a stall of the machine can break one. `make test` gives each a second try:

1. `pytest --failures-to=FILE ...` ends with 0 when tests failed and nothing else went wrong. FILE lists the tests.
   A collection error, an interrupt, a crash and a run without tests keep their exit code, and FILE is not written.
2. `pytest --second-try @FILE` runs the listed tests. Each that passes is printed as `FLAKY name` and written to
   `results/flaky.txt`. The run fails unless every one passed: a test that is skipped now has not passed.
"""

from pathlib import Path

import pytest

FLAKY = Path("results") / "flaky.txt"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("again")
    group.addoption("--failures-to", type=Path, help="end with 0 and list the failed tests here")
    group.addoption("--second-try", action="store_true", help="list the tests that pass now as flaky")


def pytest_configure(config: pytest.Config) -> None:
    """Follow the outcomes of this run if it has one of the two options."""
    if config.option.failures_to or config.option.second_try:
        config.pluginmanager.register(Outcomes(config.option.failures_to))


class Outcomes:
    """The outcome of each test of this run. `failures_to` is None in the second try."""

    def __init__(self, failures_to: Path | None) -> None:
        self._failures_to = failures_to
        self._run: set[str] = set()
        self._passed: set[str] = set()
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the outcome of one phase of a test. A test can also fail in its set-up and its tear-down."""
        self._run.add(report.nodeid)
        if report.failed:
            self._failed.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self._passed.add(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Set the exit code."""
        if self._failures_to is None:
            if exitstatus == pytest.ExitCode.OK and self._run != self._passed:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif exitstatus == pytest.ExitCode.TESTS_FAILED:
            write(self._failures_to, self._failed)
            session.exitstatus = pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the flaky tests, or what happens next, above pytest's closing line."""
        if self._failures_to is None:
            flaky = self._passed - self._failed
            write(FLAKY, flaky)
            for name in sorted(flaky):
                terminalreporter.write_line(f"FLAKY {name}")
        elif self._failed:
            terminalreporter.write_line("Tests that failed are run once more, after the others.")


def write(path: Path, names: set[str]) -> None:
    """Write one name per line, sorted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in sorted(names)), encoding="utf-8")
