"""Restore after a total loss: a backup of Kafka's topics alone brings back all conversations, which continue."""

import asyncio
import uuid
from dataclasses import replace

import httpx
import pytest

from kefu.kafka import create_topics
from kefu.settings import KafkaSettings
from kefu.tools.backup.topics import restore, save
from ops.local.servers import KafkaServer, free_port
from ops.local.stack import Stack, free_ports
from tests.e2e.customers import TEXTS, check_promises, known_customer, wait_until_answered

SEVEN_DAYS_S = "604800"


@pytest.mark.asyncio
@pytest.mark.timeout(400)
async def test_kafka_backup_alone_restores_all_conversations(stack, tmp_path):
    """A second system with an empty Redis starts on the restored topics. Customers see their replies and go on."""
    run = uuid.uuid4().hex[:8]
    async with httpx.AsyncClient(base_url=stack.url("gateway"), timeout=30) as client:
        customers = [known_customer(client, f"r{run}-{n}", stack.token_secret) for n in range(8)]
        for text in TEXTS[:3]:
            await asyncio.gather(*(customer.send(text) for customer in customers))
        await wait_until_answered(customers)
        replies_before = [await customer.replies() for customer in customers]
    source = KafkaSettings.from_env({**stack.settings})
    saved = await asyncio.to_thread(save, source, tmp_path / "backup", lambda _: None)
    assert saved["user.query"] >= 24

    kafka = KafkaServer(tmp_path / "kafka", free_port())
    kafka.start()
    again = None
    try:
        await asyncio.to_thread(kafka.wait_ready)
        settings = replace(source, brokers=kafka.brokers)
        await asyncio.to_thread(create_topics, settings)
        assert await asyncio.to_thread(restore, settings, tmp_path / "backup", lambda _: None) == saved
        overrides = {"KEFU_MEND_WINDOW_S": SEVEN_DAYS_S, "KEFU_USER_RATE": "0"}
        given = {"KAFKA_BROKERS": kafka.brokers, "KEFU_TENANTS": stack.settings["KEFU_TENANTS"]}
        again = Stack(tmp_path / "stack", free_ports(), given, lambda _: None, overrides)
        again.settings["KEFU_RECEIPT_SECRET"] = stack.settings["KEFU_RECEIPT_SECRET"]
        await asyncio.to_thread(again.start)
        async with httpx.AsyncClient(base_url=again.url("gateway"), timeout=30) as client:
            for customer in customers:
                customer.client = client
            await wait_until_answered(customers)
            assert [await customer.replies() for customer in customers] == replies_before
            for text in TEXTS[3:]:
                await asyncio.gather(*(customer.send(text) for customer in customers))
            await wait_until_answered(customers)
            await check_promises(customers)
    finally:
        if again is not None:
            again.stop()
        kafka.stop()
