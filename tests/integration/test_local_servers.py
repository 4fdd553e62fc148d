"""The servers and the supervisor of `make run`, as real processes."""

import os
import socket
import subprocess
import sys
import time

import pytest
import redis as redis_client
from confluent_kafka import Consumer, Producer

from kefu.errors import QueueUnavailable
from kefu.kafka import create_topics
from kefu.settings import KafkaSettings
from ops.local.clusters import KafkaCluster
from ops.local.run import ModelSetup, _taken
from ops.local.servers import HOST, ROOT, KafkaServer, RedisServer, free_port
from ops.local.supervisor import Service, Supervisor
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
IGNORES_TERM = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def news():
    return []


@pytest.fixture
def supervisor(tmp_path, news):
    running = Supervisor(tmp_path / "logs", news.append)
    yield running
    running.stop()


def service(name="sleeper", command=SLEEP, **more):
    return Service(name, lambda: command, lambda: "", **more)


def test_acknowledged_record_survives_a_killed_kafka(tmp_path):
    server = KafkaServer(tmp_path, free_port())
    try:
        server.start()
        server.wait_ready()
        settings = KafkaSettings(brokers=server.brokers)
        until(lambda: create_topics(settings))
        producer = Producer({"bootstrap.servers": server.brokers, "acks": "all"})
        producer.produce("user.query", b"kept", b"demo:alice")
        assert producer.flush(20) == 0
        server.kill()
        server.start()
        server.wait_ready()
        assert read_one(server.brokers) == b"kept"
    finally:
        server.stop()


def test_three_brokers_lose_no_record_when_one_is_killed(tmp_path):
    cluster = KafkaCluster(tmp_path)
    try:
        cluster.start()
        settings = KafkaSettings(brokers=cluster.brokers, replication=3)
        until(lambda: created(settings))
        producer = Producer({"bootstrap.servers": cluster.brokers, "acks": "all", "enable.idempotence": True})
        for number in range(300):
            producer.produce("user.query", b"%d" % number, b"demo:alice")
            if number == 100:
                producer.flush(1)
                cluster.servers[0].kill()
        assert producer.flush(60) == 0
        assert read_all(cluster.brokers, 300) == [b"%d" % number for number in range(300)]
    finally:
        for broker in cluster.servers:
            broker.kill()


def created(settings):
    try:
        return create_topics(settings)
    except QueueUnavailable:  # the brokers do not all know each other yet
        return None


def read_all(brokers, count):
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "reader", "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe(["user.query"])
        values = []

        def all_read():
            values.extend(record.value() for record in consumer.consume(count, 0.5) if record.error() is None)
            return len(values) >= count

        until(all_read)
        return values
    finally:
        consumer.close()


def read_one(brokers):
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "reader", "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe(["user.query"])

        def record():
            message = consumer.poll(0.5)
            return message if message is not None and message.error() is None else None

        return until(record).value()
    finally:
        consumer.close()


def test_synced_write_survives_a_killed_redis(tmp_path):
    """Redis syncs its append-only file once a second."""
    server = RedisServer(tmp_path, free_port())
    try:
        server.start()
        server.wait_ready()
        client = redis_client.Redis.from_url(server.url)
        client.set("answered", "once")
        until(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0)
        server.kill()
        server.start()
        server.wait_ready()
        assert client.get("answered") == b"once"
    finally:
        server.stop()


def test_redis_evicts_nothing_and_appends_every_write_to_its_file(redis_server):
    client = redis_client.Redis.from_url(redis_server.url)
    wanted = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"}
    assert {key: client.config_get(key)[key] for key in wanted} == wanted


def test_supervisor_restarts_a_killed_process_and_reports_it(supervisor, news):
    supervisor.start(service())
    before = supervisor.process("sleeper").pid
    os.kill(before, 9)
    until(lambda: supervisor.process("sleeper").pid != before)
    assert supervisor.process("sleeper").poll() is None
    assert len(news) == 1
    assert "sleeper ended with -9; starting it again in 0.5 s" in news[0]


def test_supervisor_doubles_the_delay_of_repeated_restarts(supervisor, news):
    supervisor.start(service(command=[sys.executable, "-c", "raise SystemExit(3)"]))
    until(lambda: len(news) == 3)
    assert [line.split(" in ")[1].split(" s")[0] for line in news] == ["0.5", "1.0", "2.0"]


def test_supervisors_kill_delays_the_restart_as_asked(supervisor):
    supervisor.start(service())
    before = supervisor.process("sleeper")
    began = time.monotonic()
    supervisor.kill("sleeper", restart_after_s=1.0)
    until(lambda: supervisor.process("sleeper") is not before)
    assert time.monotonic() - began >= 1.0


def test_supervisor_kills_a_process_that_ignores_sigterm(supervisor, tmp_path, news):
    """SIGKILL follows after the service's `grace_s`."""
    supervisor.start(service("stubborn", [sys.executable, "-c", IGNORES_TERM], grace_s=0.5))
    log = tmp_path / "logs/stubborn.log"
    until(lambda: log.exists() and "up" in log.read_text())
    pid = supervisor.process("stubborn").pid
    supervisor.stop()
    assert gone(pid)
    assert any("did not stop within" in line for line in news)


def test_processes_end_when_their_supervisor_is_killed(tmp_path):
    code = f"""
import sys, time
from pathlib import Path
from ops.local.supervisor import Service, Supervisor
s = Supervisor(Path({str(tmp_path)!r}))
s.start(Service("child", lambda: {SLEEP!r}, lambda: ""))
print(s.process("child").pid, flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    with parent:
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.kill()
    until(lambda: gone(child))


def test_supervised_processes_have_a_process_group_of_their_own(supervisor):
    """The terminal sends Ctrl-C to the supervisor's group only."""
    supervisor.start(service())
    assert os.getpgid(supervisor.process("sleeper").pid) != os.getpgid(0)


def test_port_in_use_is_reported_with_its_process_and_setting(monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        (line,) = _taken({"KEFU_REDIS_PORT": port})
    assert f"port {port} is taken by" in line
    assert f"process {os.getpid()}" in line
    assert "set KEFU_REDIS_PORT" in line


def test_port_of_an_external_redis_is_not_checked(monkeypatch):
    """With REDIS_URL set, `make run` starts no Redis."""
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere:6379/0")
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        assert _taken({"KEFU_REDIS_PORT": other.getsockname()[1]}) == []


def child_process(code):
    """Start a child process as `ops.local.setup --run` leaves one behind; it is waited for by its id alone."""
    return os.posix_spawn(sys.executable, [sys.executable, "-c", code], os.environ)


def test_worker_waits_for_the_training():
    with ModelSetup(str(child_process("import time; time.sleep(0.2)"))) as model:
        model.wait()
        model.wait()  # a second call returns at once


def test_failed_training_ends_the_run():
    with ModelSetup(str(child_process("raise SystemExit(1)"))) as model:
        with pytest.raises(RuntimeError, match="no model to serve"):
            model.wait()


def test_training_ends_with_the_run():
    pid = child_process("import time; time.sleep(600)")
    with ModelSetup(str(pid)):
        pass
    assert gone(pid)


def test_run_without_a_training_waits_for_nothing():
    with ModelSetup(None) as model:
        model.wait()
