"""The second try of system tests (tests/again.py): exit codes and output, each case on a throw-away suite."""

import os
import shutil
import subprocess
import sys

import pytest

from ops.local.servers import ROOT

PASSES = """
def test_good(): pass
"""
FAILS = """
def test_bad(): assert False
"""
FAILS_ONCE = """
def test_once():
    import pathlib
    tried = pathlib.Path("tried")
    first = not tried.exists()
    tried.touch()
    assert not first
"""
SETUP_FAILS_ONCE = """
import pytest
@pytest.fixture
def broken_once():
    import pathlib
    tried = pathlib.Path("set-up")
    first = not tried.exists()
    tried.touch()
    assert not first
def test_set_up(broken_once): pass
"""
FAILS_THEN_SKIPS = """
import pathlib, pytest
def test_skipped():
    if pathlib.Path("skip").exists():
        pytest.skip("nothing to show")
    pathlib.Path("skip").touch()
    assert False
"""
CRASHES = """
import os
def test_before(): assert False
def test_crash(): os._exit(1)
"""
CANNOT_BE_READ = "import no_such_module"
NONE = ""


def ended(command, folder):
    without_plugins = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **without_plugins}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def suite(tmp_path):
    """Return a function that runs pytest with arguments on a test_suite.py of the given text."""

    def run(text, *arguments):
        (tmp_path / "test_suite.py").write_text(text)
        plugins = ["-p", "no:cacheprovider", "-p", "tests.again"]
        return ended([sys.executable, "-m", "pytest", "-q", *plugins, *arguments], tmp_path)

    return run


@pytest.fixture
def tried_twice(suite, tmp_path):
    """Return a function that runs a suite as `make test` does, and returns the ended runs."""

    def run(text):
        runs = [suite(text, "--failures-to=failed.txt", "test_suite.py")]
        if (tmp_path / "failed.txt").exists():
            runs.append(suite(text, "--second-try", "@failed.txt"))
        return runs

    return run


def codes(runs):
    return [ended.returncode for ended in runs]


def flaky(tmp_path):
    path = tmp_path / "results" / "flaky.txt"
    return path.read_text().split() if path.exists() else []


def test_suite_that_passes_is_run_once(tried_twice, tmp_path):
    assert codes(tried_twice(PASSES)) == [0] and not flaky(tmp_path)


def test_tests_that_pass_the_second_time_are_listed_as_flaky(tried_twice, tmp_path):
    first, second = tried_twice(PASSES + FAILS_ONCE + SETUP_FAILS_ONCE)
    assert (first.returncode, second.returncode) == (0, 0), second.stdout
    assert "FLAKY test_suite.py::test_once" in second.stdout and "FLAKY" not in first.stdout
    assert flaky(tmp_path) == ["test_suite.py::test_once", "test_suite.py::test_set_up"]
    assert "1 failed, 1 passed, 1 error in" in first.stdout.splitlines()[-1]
    assert "2 passed in" in second.stdout.splitlines()[-1], "only what failed is run again"


@pytest.mark.parametrize("text", [FAILS, FAILS_THEN_SKIPS])
def test_test_that_fails_or_skips_the_second_time_fails_the_run(tried_twice, tmp_path, text):
    assert codes(tried_twice(text + FAILS_ONCE)) == [0, 1]
    assert flaky(tmp_path) == ["test_suite.py::test_once"]


@pytest.mark.parametrize(("text", "code"), [(CRASHES, 1), (CANNOT_BE_READ, 2), (NONE, 5)])
def test_crash_collection_error_and_empty_suite_get_no_second_try(tried_twice, text, code):
    assert codes(tried_twice(text)) == [code]


def test_second_try_of_a_missing_test_fails(suite, tmp_path):
    (tmp_path / "failed.txt").write_text("test_suite.py::test_gone\n")
    assert suite(PASSES, "--second-try", "@failed.txt").returncode == 4


@pytest.fixture
def make_test(tmp_path):
    """Return a function that runs this project's `make test` on throw-away tests, one text for each folder."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    settings = (ROOT / "pyproject.toml").read_text()
    (tmp_path / "pyproject.toml").write_text(settings.replace("[tool.ruff]", '[tool.ruff]\nexclude = ["tests"]'))

    def run(**texts):
        groups = dict.fromkeys(("e2e", "chaos", "worker", "chart", "integration", "unit"), PASSES) | texts
        for group, text in groups.items():
            (tmp_path / "tests" / group).mkdir(parents=True)
            (tmp_path / "tests" / group / f"test_{group}.py").write_text(text)
        (tmp_path / "tests" / "chart" / "test_running.py").write_text(PASSES)
        pythons = [f"{name}={sys.executable}" for name in ("SERVICES", "WORKER", "OPS")]
        return ended(["make", "test", "SETUP=true", "LINT_IMPORTS=true", "MYPY=true", *pythons], tmp_path)

    return run


def test_make_test_passes_with_a_system_test_that_fails_once(make_test, tmp_path):
    """`make test` runs the failed test of tests/e2e again, alone."""
    done = make_test(e2e=FAILS_ONCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert flaky(tmp_path) == ["tests/e2e/test_e2e.py::test_once"]
    assert done.stdout.count("1 passed") == 7, "each of the other six groups, and the second try"


@pytest.mark.parametrize(
    ("texts", "failed"),
    [
        ({"e2e": FAILS}, "FAILED tests/e2e/test_e2e.py"),
        ({"e2e": FAILS_ONCE, "worker": FAILS}, "FAILED tests/worker/test_worker.py"),
    ],
)
def test_make_test_fails_with_any_other_failure(make_test, texts, failed):
    """A test of tests/e2e fails twice, or a test of another folder fails."""
    done = make_test(**texts)
    assert done.returncode == 2 and failed in done.stdout, done.stdout + done.stderr
