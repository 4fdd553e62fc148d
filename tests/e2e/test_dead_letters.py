"""A message that can't be processed becomes a dead letter, delays no other, and is replayed by the operators' tool."""

import asyncio
import json
import subprocess
import uuid

import httpx
import pytest
import redis

from kefu.events import USER_QUERY
from ops.local.servers import ROOT, services_python
from tests.e2e.customers import check_promises, known_customer, wait_until_answered
from tests.e2e.test_promises import records_on
from tests.waiting import eventually

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]


@pytest.fixture
async def client(stack):
    async with httpx.AsyncClient(base_url=stack.url("gateway"), timeout=30) as client:
        yield client


@pytest.fixture
def store(stack):
    with redis.Redis.from_url(stack.settings["REDIS_URL"]) as connection:
        yield connection


def dlq(stack, *words):
    """Run `python -m kefu dlq` as operators do; return its exit code and the JSON lines that it printed."""
    done = subprocess.run(
        [services_python(), "-m", "kefu", "dlq", *words, "--json"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "KEFU_OPERATOR": "li.wei", **stack.settings},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


async def letters_of(stack, customer):
    """Return a customer's dead letters as the tool lists them.

    The customer may learn of the failure before the letter is written, so this waits for the first letter.
    """

    async def listed():
        code, letters = await asyncio.to_thread(dlq, stack, "list", "--conversation", f"demo:{customer.user}")
        assert code == 0
        return letters

    return await eventually(listed, "a dead letter")


async def by_partition(stack, customers):
    """Return customers by the partition that their messages lie in."""
    wanted = {f"demo:{customer.user}": customer for customer in customers}
    partitions = {}
    for record in await asyncio.to_thread(records_on, stack, USER_QUERY, set(wanted)):
        partitions.setdefault(record.partition, []).append(wanted[record.key.decode()])
    return partitions


async def test_dead_letter_blocks_no_other_customer_and_can_be_replayed(stack, client, store):
    """A stored conversation is damaged: its next message fails three times and becomes a dead letter.

    Messages of others in the partition are answered meanwhile. Once the conversation is repaired, `python -m kefu dlq
    replay` sends the message again, once, and it is answered.
    """
    run = uuid.uuid4().hex[:8]
    customers = [known_customer(client, f"p{run}-{n}", stack.token_secret) for n in range(24)]
    await asyncio.gather(*(customer.send("hello") for customer in customers))
    await wait_until_answered(customers)
    neighbours = max((await by_partition(stack, customers)).values(), key=len)
    poisoned, *others = neighbours
    assert others, "24 customers over 8 partitions leave at least three in one"
    version = int(store.hget(f"kefu:{{demo:{poisoned.user}}}:state", "version"))
    store.rpush(f"kefu:{{demo:{poisoned.user}}}:turns", "not json")
    stack.kill("worker")  # the worker has the conversation in memory and would not read the damaged turn

    failed = await poisoned.send("thanks")
    for text in ("hello", "thanks", "再见"):
        await asyncio.gather(*(customer.send(text) for customer in others))
    await wait_until_answered(others)
    await check_promises(others)
    status = await poisoned.outcome(failed)
    assert status == {"message_id": failed, "status": "failed", "reason": "internal_error"}

    (letter,) = await letters_of(stack, poisoned)
    assert (letter["error_class"], letter["attempts"], letter["message_id"]) == ("JSONDecodeError", 3, failed)
    (question,) = [
        record
        for record in await asyncio.to_thread(records_on, stack, USER_QUERY, {f"demo:{poisoned.user}"})
        if json.loads(record.value)["message_id"] == failed
    ]
    assert letter["origin"] == {
        "topic": USER_QUERY,
        "partition": str(question.partition),
        "offset": str(question.offset),
    }

    assert store.lrem(f"kefu:{{demo:{poisoned.user}}}:turns", 0, "not json") == 1
    code, (sent,) = await asyncio.to_thread(dlq, stack, "replay", "--yes", letter["position"])
    assert code == 0
    assert (await asyncio.to_thread(dlq, stack, "replay", "--yes", letter["position"]))[0] == 1
    answered = await poisoned.outcome(sent["message_id"])
    assert answered["status"] == "answered"
    assert (await poisoned.replies())[-1]["message_id"] == sent["message_id"]
    assert [reply["seq"] for reply in await poisoned.replies()] == [1, 2]
    assert int(store.hget(f"kefu:{{demo:{poisoned.user}}}:state", "version")) == version + 2
    assert (await poisoned.outcome(failed))["status"] == "failed"
