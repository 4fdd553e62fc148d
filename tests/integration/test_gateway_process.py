"""The gateway with a real Kafka that stops and starts again, and as a process that gets a real SIGTERM."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import asdict

import httpx
import pytest
from confluent_kafka import Consumer

from kefu.codec import decode
from kefu.events import USER_QUERY, UserSaid
from kefu.kafka import create_topics
from kefu.settings import KafkaSettings
from ops.local.servers import KafkaServer, free_port
from tests.integration.gateway_kit import TENANTS, bearer, serve, settings
from tests.waiting import eventually, until

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A Kafka for this module only, because its tests stop it."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"), free_port())
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        server.kill()


@pytest.fixture
def kafka_of_test(broker):
    found = KafkaSettings(brokers=broker.brokers, topic_prefix=f"t{uuid.uuid4().hex[:8]}.")
    create_topics(found)
    return found


def consumed(kafka, count):
    """Return `count` records of the inbox: key, message, partition."""
    config = {**kafka.client_config(), "group.id": "t", "auto.offset.reset": "earliest"}
    consumer = Consumer(config)
    consumer.subscribe([kafka.topic_prefix + USER_QUERY])
    records = []

    def enough():
        record = consumer.poll(0.1)
        if record is not None and not record.error():
            records.append((record.key().decode(), decode(record.value(), UserSaid), record.partition()))
        return len(records) >= count

    until(enough, f"{count} messages in the inbox")
    consumer.close()
    return records


async def test_accepted_messages_are_in_the_inbox_in_order(valkey, kafka_of_test):
    """A real Kafka has the gateway's records of one conversation in one partition."""
    patient = settings(accept_timeout_s=30)  # long, because the first record waits for the producer's connection
    async with serve(valkey.settings, patient, kafka_of_test, real_kafka=True) as served:
        await eventually(lambda: served.app.ctx.gateway.kafka.available)
        assert (await served.client.get("/readyz")).json()["status"] == "ok"
        token = await served.token("alice")
        for number in range(20):
            assert (await served.say(token, {"text": f"{number}: 13800001234"})).status_code == 202
        records = await asyncio.to_thread(consumed, kafka_of_test, 20)
    assert [said.text for _, said, _ in records] == [f"{number}: *******1234" for number in range(20)]
    assert {key for key, _, _ in records} == {"demo:alice"} and len({part for _, _, part in records}) == 1


async def test_gateway_connects_its_producer_before_the_first_request(valkey):
    async with serve(valkey.settings) as served:
        assert served.inbox.connected


async def test_the_gateway_starts_without_kafka_and_refuses_messages(valkey, caplog):
    async with serve(valkey.settings, real_kafka=True) as served:
        assert "kafka can't be reached yet" in caplog.messages
        assert (await served.client.get("/livez")).status_code == 200
        refused = await served.say(await served.token("alice"))
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:kefu:problem:queue-unavailable")


def _environment(valkey, kafka, port):
    tenants = {name: {k: v for k, v in asdict(tenant).items() if k != "name"} for name, tenant in TENANTS.items()}
    return {
        **os.environ,
        "KAFKA_BROKERS": kafka.brokers,
        "KEFU_TOPIC_PREFIX": kafka.topic_prefix,
        "REDIS_URL": valkey.settings.url,
        "KEFU_TENANTS": json.dumps(tenants),
        "KEFU_RECEIPT_SECRET": "receipt",
        "KEFU_GATEWAY_PORT": str(port),
        "KEFU_GATEWAY_DRAIN_S": "1",
        "KEFU_ACCEPT_TIMEOUT_S": "30",
    }


async def test_gateway_ends_waiting_requests_on_sigterm_and_exits_with_0(valkey, kafka_of_test, tmp_path):
    port = free_port()
    log = (tmp_path / "log").open("wb")
    command = [sys.executable, "-c", "from kefu.gateway.app import main; main()"]
    environment = _environment(valkey, kafka_of_test, port)
    process = await asyncio.to_thread(subprocess.Popen, command, env=environment, stderr=log, stdout=log)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            await _ready(client)
            body = {"tenant": "demo", "site_key": "demo-site"}
            token = (await client.post("/v1/sessions", json=body)).json()["token"]
            headers = {**bearer(token), "prefer": "wait=30"}
            waiting = asyncio.create_task(client.post("/v1/messages", json={"text": "x"}, headers=headers))
            await asyncio.to_thread(consumed, kafka_of_test, 1)
            process.send_signal(signal.SIGTERM)
            assert (await waiting).status_code == 202
        assert await asyncio.to_thread(process.wait, 60) == 0
    finally:
        process.kill()
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines and all(json.loads(line)["process"] == "gateway" for line in lines)


async def test_gateway_exits_on_a_wrong_redis_url_without_its_password(valkey, kafka_of_test):
    command = [sys.executable, "-m", "kefu", "gateway"]
    environment = _environment(valkey, kafka_of_test, free_port())
    environment["REDIS_URL"] = "redis://:s3cr/et@127.0.0.1:6379/1"
    ended = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("kefu gateway: REDIS_URL has an @ after a / or ?: percent-encode")
    assert "s3cr" not in ended.stderr and len(ended.stderr.splitlines()) == 1


async def test_messages_get_503_while_kafka_is_down(valkey, broker, kafka_of_test):
    async with serve(valkey.settings, settings(), kafka_of_test, real_kafka=True) as served:
        gateway, token = served.app.ctx.gateway, await served.token("alice")
        await eventually(lambda: gateway.kafka.available)
        await asyncio.to_thread(broker.kill)
        try:
            refused = await served.say(token, {"text": "x", "message_id": "m1"})
            assert (refused.status_code, refused.json()["type"]) == (503, "urn:kefu:problem:queue-unavailable")
            assert int(refused.headers["retry-after"]) > 0
            await eventually(lambda: not gateway.kafka.available)
            assert (await served.client.get("/readyz")).json()["missing"] == ["kafka"]
            assert (await served.client.get("/livez")).status_code == 200
        finally:
            broker.start()  # in this thread: the broker ends with the thread that started it
            await asyncio.to_thread(broker.wait_ready)
        await eventually(lambda: gateway.kafka.available)

        async def accepted():  # the producer may reconnect later than the probe
            again = await served.say(token, {"text": "x", "message_id": "m1"})
            assert again.status_code in (202, 503)
            return again.status_code == 202

        await eventually(accepted)


async def _ready(client):
    async def ready():
        return (await client.get("/readyz")).status_code == 200

    await eventually(ready, not_yet=(httpx.TransportError,))
