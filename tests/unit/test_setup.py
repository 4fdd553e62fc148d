"""The parts of ops/local/setup.py that need no network."""

import hashlib
import os
import stat

import pytest

from ops.local import setup


@pytest.fixture
def listed(tmp_path):
    """A folder with two jars, and the list of their sums."""
    folder = tmp_path / "libs"
    folder.mkdir()
    for name in ("a.jar", "b.jar"):
        (folder / name).write_text(name)
    sums = tmp_path / "jars.sha256"
    sums.write_text("".join(f"{hashlib.sha256(n.encode()).hexdigest()}  {n}\n" for n in ("a.jar", "b.jar")))
    return folder, sums


@pytest.fixture
def local(tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "LOCAL", tmp_path / ".local")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    return tmp_path


def pyenv_with(home, *versions):
    for version in versions:
        binary = home / ".pyenv/versions" / version / "bin/uv"
        binary.parent.mkdir(parents=True)
        binary.write_text("#!/bin/sh\nexit 0\n")
        binary.chmod(binary.stat().st_mode | stat.S_IXUSR)


def test_jars_with_the_listed_sums_are_accepted(listed):
    assert setup.wrong_jars(*listed) == []


def test_changed_missing_and_extra_jars_are_named(listed):
    folder, sums = listed
    (folder / "a.jar").write_text("changed")
    (folder / "b.jar").unlink()
    (folder / "extra.class").write_text("")
    assert setup.wrong_jars(folder, sums) == ["a.jar", "b.jar", "extra.class"]


def test_stamp_is_fresh_until_an_input_file_changes(local):
    source = local / "config.yml"
    source.write_text("one")
    setup.Stamp("model", [source]).write()
    assert setup.Stamp("model", [source]).fresh()
    source.write_text("two")
    assert not setup.Stamp("model", [source]).fresh()


def test_stamp_is_outdated_after_a_renamed_input_file(local):
    (local / "a.yml").write_text("one")
    setup.Stamp("model", [local / "a.yml"]).write()
    (local / "a.yml").rename(local / "b.yml")
    assert not setup.Stamp("model", [local / "b.yml"]).fresh()


def test_newest_python_of_pyenv_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / ".pyenv"))
    pyenv_with(tmp_path, "3.9.18", "3.12.1", "3.10.13")
    own = [path for path in setup._pyenv("uv") if tmp_path in path.parents]
    assert [path.parts[-3] for path in own] == ["3.12.1", "3.10.13", "3.9.18"]


def test_set_up_trusts_the_systems_certificate_authorities(monkeypatch):
    """A bundle that the environment names is kept."""
    monkeypatch.setattr(os, "environ", {"REQUESTS_CA_BUNDLE": "of-the-company.pem"})
    setup.trust_system()
    assert os.environ["UV_SYSTEM_CERTS"] == "true"
    assert os.environ["REQUESTS_CA_BUNDLE"] == "of-the-company.pem"


def test_failed_set_up_step_says_what_to_do(capsys):
    with pytest.raises(setup.StepFailed, match="ended with 1: look at the cable"):
        setup._run(["false"], "look at the cable")


RASA_SAYS = (
    "\x1b[0m\x1b[93m/env/site-packages/rasa/shared/utils/io.py:100: UserWarning: Misaligned entity annotation.\n"
    "\x1b[0m2026-11-30 23:46:37 INFO     rasa.validator  - Validating utterances...\n"
    "/env/site-packages/pkg_resources/__init__.py:3117: DeprecationWarning: Deprecated call\n"
    "/env/site-packages/rasa/shared/utils/io.py:100: UserWarning: The utterance 'utter_a' is not used.\n"
    "/env/site-packages/rasa/shared/utils/io.py:100: UserWarning: Misaligned entity annotation.\n"
)


def test_rasas_warnings_are_shown_once_unless_accepted(tmp_path, monkeypatch):
    accepted = tmp_path / "accepted_warnings.txt"
    accepted.write_text("# fine so\nThe utterance 'utter_a' is not used.\n")
    monkeypatch.setattr(setup, "ACCEPTED_WARNINGS", accepted)
    assert setup.rasa_warnings(RASA_SAYS) == ["Misaligned entity annotation."]


def test_set_up_step_prints_the_expected_remaining_time(local, monkeypatch, capsys):
    waits = iter([False, True])
    monkeypatch.setattr(setup.threading.Event, "wait", lambda self, timeout=None: next(waits))
    step = setup.Step.__new__(setup.Step)
    step._what, step._started = "model trained", setup.time.monotonic()
    step._took, step._ended = local / "took", setup.threading.Event()
    step._took.write_text("42")
    step._tell(setup.threading.current_thread())
    assert "model trained: 0 s, about 42 s left" in capsys.readouterr().out


def test_failed_training_leaves_the_old_model(local, monkeypatch):
    (local / "models").mkdir()
    (local / "models" / "kefu.tar.gz").write_text("old")
    monkeypatch.setattr(setup, "REQUIREMENTS", local)
    for name in ("config.yml", "domain.yml", "worker.txt"):
        (local / name).write_text("")
    python = local / ".local" / "worker" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho broken\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(setup.StepFailed, match="mend config"):
        setup.train()
    assert (local / "models" / "kefu.tar.gz").read_text() == "old"
    assert not (local / ".local" / "stamps" / "model").exists()


def test_set_up_command_is_tried_again_after_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(setup.time, "sleep", lambda _: None)
    mark = tmp_path / "mark"
    setup._run(["sh", "-c", f"test -e {mark} || {{ touch {mark}; exit 1; }}"], "", tries=2)


def test_failure_of_one_of_two_parallel_steps_is_raised():
    def fail():
        raise setup.StepFailed("no disk")

    with pytest.raises(setup.StepFailed, match="no disk"):
        setup.together([fail, lambda: None])
