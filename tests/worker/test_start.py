"""A worker that cannot keep its promises does not start, and reports why."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.worker.conftest import MODEL, ROOT

ADDRESSES = {
    "KAFKA_BROKERS": "127.0.0.1:1",
    "REDIS_URL": "redis://127.0.0.1:1/0",
    "ACTION_ENDPOINT_URL": "http://127.0.0.1:1/webhook",
    "KEFU_MODEL": str(MODEL),
}


def start(directory, **environment):
    from ops.local.servers import free_port

    ports = {name: str(free_port()) for name in ("KEFU_WORKER_PORT", "KEFU_WORKER_HEALTH_PORT")}
    env = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": str(ROOT), **ports, **environment}
    return subprocess.run(
        [sys.executable, "-m", "kefu", "worker"], cwd=directory, env=env, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def project(tmp_path):
    for name in ("endpoints.yml", "credentials.yml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("part", "kefus", "other"),
    [
        ("tracker_store", "kefu.worker.store.TurnStore", "kefu.worker.store.Misspelt"),
        ("event_broker", "kefu.worker.broker.TurnBroker", "kefu.worker.broker.Misspelt"),
        ("lock_store", "kefu.worker.lock.PartitionLock", "in_memory"),
    ],
)
def test_endpoint_that_rasa_would_replace_stops_the_start(project, part, kefus, other):
    """Rasa would use its own in memory if it cannot load one of endpoints.yml."""
    endpoints = (project / "endpoints.yml").read_text()
    assert kefus in endpoints
    (project / "endpoints.yml").write_text(endpoints.replace(kefus, other))
    done = start(project, **ADDRESSES)
    assert done.returncode == 1
    assert f"{part} is " in done.stderr and "check endpoints.yml" in done.stderr


def test_missing_setting_stops_the_start_with_its_name(project):
    without = {key: value for key, value in ADDRESSES.items() if key != "ACTION_ENDPOINT_URL"}
    done = start(project, **without)
    assert (done.returncode, done.stderr.strip()) == (2, "kefu worker: ACTION_ENDPOINT_URL is not set")


def test_kafka_channel_does_not_start_without_an_address(project):
    done = start(project, **{key: value for key, value in ADDRESSES.items() if key != "KAFKA_BROKERS"})
    assert (done.returncode, done.stderr.strip()) == (2, "kefu worker: KAFKA_BROKERS is not set")


def test_more_than_one_sanic_worker_is_refused(project):
    done = start(project, **ADDRESSES, SANIC_WORKERS="4")
    assert done.returncode == 2 and "SANIC_WORKERS" in done.stderr


def test_designer_commands_read_the_redis_url_from_a_file(tmp_path, monkeypatch):
    from kefu.worker.broker import TurnBroker
    from kefu.worker.store import TurnStore

    (tmp_path / "url").write_text(ADDRESSES["REDIS_URL"])
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert TurnStore(None, TurnBroker())._conversations is None
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "url"))
    assert TurnStore(None, TurnBroker())._conversations is not None
