"""Runs the designers' commands: the `rasa` of the worker's environment, as a subprocess."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RASA = ROOT / ".local" / "worker" / "bin" / "rasa"
# The files that a model is made of. A model that is older than one of them is not tested.
SOURCES = ("config.yml", "domain.yml", "data", "kefu/worker/nlu")
TIMEOUT_S = 300

Rasa = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="session")
def rasa() -> Rasa:
    """Return a function that runs `rasa ARGUMENTS` at the root and returns the ended process."""
    environment = os.environ | {"RASA_TELEMETRY_ENABLED": "false", "TF_CPP_MIN_LOG_LEVEL": "3"}
    # A designer's environment has no variables of the platform.
    for name in ("KAFKA_BROKERS", "REDIS_URL"):
        environment.pop(name, None)

    def run(*arguments: object) -> subprocess.CompletedProcess:
        command = [str(RASA), *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, env=environment, timeout=TIMEOUT_S, capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def model(rasa: Rasa, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of a model of the present data: that of `models/` if it is up to date, else a new one."""
    trained = ROOT / "models" / "kefu.tar.gz"
    if trained.exists() and trained.stat().st_mtime > max(map(_changed_at, _sources())):
        return trained
    folder = tmp_path_factory.mktemp("model")
    ended = rasa("train", "--force", "--out", folder, "--fixed-model-name", "kefu")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return folder / "kefu.tar.gz"


def _sources() -> Iterator[Path]:
    for name in SOURCES:
        path = ROOT / name
        yield from (each for each in path.rglob("*.*") if each.suffix != ".pyc") if path.is_dir() else [path]


def _changed_at(path: Path) -> float:
    return path.stat().st_mtime
