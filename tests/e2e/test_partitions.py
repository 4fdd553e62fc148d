"""Partitions are added while customers talk: no answer is lost, doubled or out of order."""

import asyncio
import subprocess
import uuid

import httpx
import pytest

from kefu.settings import KafkaSettings
from kefu.tools import partitions
from ops.local.servers import ROOT, services_python
from ops.local.stack import Stack, free_ports
from tests.e2e.customers import TEXTS, check_promises, known_customer, wait_until_answered


@pytest.mark.asyncio
@pytest.mark.timeout(300)
async def test_adding_partitions_under_load_loses_no_message(tmp_path):
    """`python -m kefu partitions 12` raises the topics from 4 partitions while 24 customers talk."""
    stack = Stack(
        tmp_path, free_ports(), tell=lambda _: None, overrides={"KEFU_TOPIC_PARTITIONS": "4", "KEFU_USER_RATE": "0"}
    )
    try:
        await asyncio.to_thread(stack.start)
        await asyncio.to_thread(stack.wait_ready, stack.add_worker())
        await talk_while_partitions_grow(stack)
    finally:
        stack.stop()


async def talk_while_partitions_grow(stack):
    run = uuid.uuid4().hex[:8]
    async with httpx.AsyncClient(base_url=stack.url("gateway"), timeout=30) as client:
        customers = [known_customer(client, f"p{run}-{n}", stack.token_secret) for n in range(24)]
        talks = asyncio.gather(*(talk(customer, 6) for customer in customers))
        await asyncio.sleep(2)
        command = [str(services_python()), "-m", "kefu", "partitions", "12"]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=stack.settings, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        await talks
        # Clients learn of the new partitions at the next refresh of their metadata, which takes up to 3 s itself.
        await asyncio.sleep(partitions.METADATA_REFRESH_MS / 1000 + 3)
        for text in TEXTS:
            await asyncio.gather(*(customer.send(text) for customer in customers))
        await wait_until_answered(customers)
        await check_promises(customers)
    kafka = KafkaSettings.from_env(stack.settings)
    assert set((await asyncio.to_thread(partitions.counted, kafka)).values()) == {12}
    assert partitions.refusal(partitions.counted(kafka), 8, 0)


async def talk(customer, messages):
    """Send messages, each once the one before is answered, as people do."""
    for number in range(messages):
        outcome = await customer.outcome(await customer.send(TEXTS[number % len(TEXTS)]))
        assert outcome["status"] == "answered"


def test_adding_partitions_is_refused_when_unsafe():
    """Unsafe are a backlog of messages, a smaller number of partitions and a missing topic."""
    counts = dict.fromkeys(partitions.ORDER, 8)
    assert not partitions.refusal(counts, 16, 10)
    assert "wait" in partitions.refusal(counts, 16, 100_000)
    assert "away" in partitions.refusal(counts, 4, 0)
    assert "missing" in partitions.refusal({**counts, "answer.generated": 0}, 16, 0)
