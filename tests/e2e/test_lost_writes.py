"""Redis loses writes that it had acknowledged: no message is lost, and no reply's sequence number is given twice."""

import asyncio
import shutil
import uuid

import httpx
import pytest
import redis

from tests.e2e.customers import TEXTS, check_promises, known_customer, wait_until_answered

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]


@pytest.fixture
async def client(stack):
    async with httpx.AsyncClient(base_url=stack.url("gateway"), timeout=30) as client:
        yield client


def copy_of(stack, to):
    """Copy the files that Redis has written so far."""
    with redis.Redis.from_url(stack.settings["REDIS_URL"], single_connection_client=True) as connection:
        connection.set("written", 1)  # WAITAOF waits for the writes of its own connection, and for all before them
        assert connection.execute_command("WAITAOF", 1, 0, 10_000)[0] == 1
    shutil.copytree(stack.redis.directory / "appendonlydir", to)


def come_back_as(stack, copy):
    """Kill Redis, and replace its files by the copy before the supervisor starts it again."""
    stack.kill("redis", restart_after_s=600)
    directory = stack.redis.directory / "appendonlydir"
    shutil.rmtree(directory)
    shutil.copytree(copy, directory)
    stack.kill("redis")


@pytest.mark.parametrize("worker_dies", [True, False], ids=["with the worker", "alone"])
async def test_turns_lost_by_redis_are_restored(stack, client, tmp_path, worker_dies):
    """Redis restarts on an older copy of its files: the worker writes the missing turns again.

    With the worker alive it has them in memory; a new worker reads them from Kafka. Replies that customers have seen
    stay, and streams continue.
    """
    run = uuid.uuid4().hex[:8]
    customers = [known_customer(client, f"l{run}-{n}", stack.token_secret) for n in range(12)]
    silent = customers[:4]  # send nothing after the loss; their lost answers must be restored as well
    for text in TEXTS[:2]:
        await asyncio.gather(*(customer.send(text) for customer in customers))
    await wait_until_answered(customers)
    copy_of(stack, tmp_path / "copy")
    for text in TEXTS[2:4]:
        await asyncio.gather(*(customer.send(text) for customer in customers))
    await wait_until_answered(customers)
    replies_before = [await customer.replies() for customer in customers]

    come_back_as(stack, tmp_path / "copy")
    if worker_dies:
        stack.kill("worker")
    await asyncio.gather(*(customer.send(TEXTS[4]) for customer in customers if customer not in silent))
    # A stream that is resumed after a reply which Redis lost still gets the next reply.
    await until_streamed(client, customers[-1], replies_before[-1][-1]["seq"], customers[-1].accepted[-1])
    await wait_until_answered(customers)
    await check_promises(customers)
    for customer, before in zip(customers, replies_before, strict=True):
        assert (await customer.replies())[: len(before)] == before


async def until_streamed(client, customer, seen, message_id):
    """Wait for a reply on a stream that is resumed after `seen`."""
    headers = {**customer.headers, "Last-Event-ID": str(seen)}
    async with asyncio.timeout(120), client.stream("GET", "/v1/stream", headers=headers) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data:") and message_id in line:
                return
    raise AssertionError("the stream ended without the reply")
