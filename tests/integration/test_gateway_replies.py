"""Waiting requests share connections, subscriptions and round trips, and don't delay each other."""

import asyncio

import pytest
import redis

from kefu.errors import StoreUnavailable
from kefu.gateway.answer import hints
from kefu.gateway.answer.batched_reads import Reads
from kefu.keys import ConversationKeys
from tests.integration.gateway_kit import listening, serve, settings, stream
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio


def calls(valkey, command):
    """Return how often the server has run a command."""
    stats = redis.Redis(port=valkey.port).info("commandstats")
    return stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]


async def test_many_waiting_requests_share_round_trips(served, monkeypatch):
    """40 waiting requests read their outcomes from Redis in batches."""
    trips, exchange = [], Reads._exchange

    async def counted(reads, master, commands):
        trips.append(len(commands))
        return await exchange(reads, master, commands)

    tokens = [await served.token(f"user{number}") for number in range(40)]
    monkeypatch.setattr(Reads, "_exchange", counted)
    asked = [served.say(token, {"text": "x", "message_id": "m1"}, prefer="wait=30") for token in tokens]
    waiting = asyncio.gather(*asked)
    await eventually(lambda: served.app.ctx.gateway.waits == 40 and listening(served))
    for number in range(40):
        served.worker.answer(f"user{number}", "m1", f"for user{number}")
    answers = await waiting
    assert [answer.json()["replies"][0]["text"] for answer in answers] == [f"for user{number}" for number in range(40)]
    assert sum(trips) >= 40 and len(trips) < sum(trips) / 2, trips


async def test_a_refused_read_does_not_fail_its_batch(served):
    """Redis refuses one of two commands that were sent together."""
    reads = served.app.ctx.gateway.store._reads
    served.worker.answer("alice", "m1", "hi")
    prefix = served.worker.redis_settings.key_prefix
    keys = ConversationKeys(prefix, "demo:alice")
    refused, given = reads.get(keys.replies), reads.get(keys.marker("m1"))
    with pytest.raises(StoreUnavailable):
        await refused
    assert b"hi" in await given


async def test_a_cancelled_read_takes_no_other_reads_answer(served):
    """Answers of Redis are assigned to reads in order."""
    reads = served.app.ctx.gateway.store._reads
    for name in ("m1", "m2"):
        served.worker.answer("alice", name, f"reply to {name}")
    keys = ConversationKeys(served.worker.redis_settings.key_prefix, "demo:alice")
    first, second = reads.get(keys.marker("m1")), reads.get(keys.marker("m2"))
    first.cancel()
    assert b"reply to m2" in await second


async def test_a_continued_conversation_keeps_its_subscription(served, valkey):
    """Five messages in a row subscribe once to the conversation's hints."""
    token, hub = await served.token("alice"), served.app.ctx.gateway.hub
    served.inbox.on_said = lambda said: served.worker.answer(said.user, said.message_id, "hi")
    await eventually(lambda: hub.connected)
    before = calls(valkey, "ssubscribe")
    for _ in range(5):
        assert (await served.say(token, prefer="wait=20")).status_code == 200
    assert calls(valkey, "ssubscribe") - before == 1
    assert hub.watched == 0 and list(hub._lingering)


async def test_subscription_without_a_watcher_ends_after_linger_s(served, valkey, monkeypatch):
    """Waiting requests and streams watch the hints of their conversation."""
    monkeypatch.setattr(hints, "LINGER_S", 0.1)
    monkeypatch.setattr(hints, "MAP_S", 0.05)
    token, hub = await served.token("alice"), served.app.ctx.gateway.hub
    async with stream(served, token):
        await eventually(lambda: listening(served))
        await asyncio.sleep(0.3)
        assert listening(served)
    await eventually(lambda: not hub._channels and not hub._lingering)
    await eventually(lambda: not redis.Redis(port=valkey.port).execute_command("PUBSUB", "SHARDCHANNELS"))
    async with stream(served, token) as events:
        await eventually(lambda: listening(served))
        served.worker.answer("alice", "m1", "one")
        assert (await events.next())["id"] == "1"


async def test_lingering_subscriptions_are_bounded(served, monkeypatch):
    """Subscriptions without a watcher are kept for a while, because conversations often go on."""
    monkeypatch.setattr(hints, "MAX_LINGERING", 3)
    served.inbox.on_said = lambda said: served.worker.answer(said.user, said.message_id, "hi")
    for number in range(6):
        assert (await served.say(await served.token(f"user{number}"), prefer="wait=20")).status_code == 200
    await eventually(lambda: len(served.app.ctx.gateway.hub._channels) <= 3)


async def test_waiting_request_survives_a_broken_hint_connection(served, valkey):
    token = await served.token("alice")
    waiting = asyncio.create_task(served.say(token, {"text": "x", "message_id": "m1"}, prefer="wait=20"))
    await eventually(lambda: listening(served))
    redis.Redis(port=valkey.port).execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    served.worker.answer("alice", "m1", "hi")
    assert (await waiting).json()["replies"][0]["text"] == "hi"
    await eventually(lambda: served.app.ctx.gateway.hub.connected)


async def test_hanging_redis_does_not_prolong_a_waiting_request(served, valkey):
    token = await served.token("alice")
    with valkey.hanging():
        answer = await asyncio.wait_for(served.say(token, {"text": "x", "message_id": "m1"}, prefer="wait=1"), 10)
    assert answer.status_code == 202


async def test_unanswered_messages_are_limited_until_answers_come(valkey):
    """The limit applies to one customer. Answers count whether they are hinted or read."""
    async with serve(valkey.settings, settings(max_unanswered=2)) as served:
        alice, bob = await served.token("alice"), await served.token("bob")
        for name in ("m1", "m2"):
            assert (await served.say(alice, {"text": "x", "message_id": name})).status_code == 202
        refused = await served.say(alice, {"text": "x", "message_id": "m3"})
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:kefu:problem:too-many-unanswered")
        assert int(refused.headers["retry-after"]) > 0 and len(served.inbox.said) == 2
        assert (await served.say(bob)).status_code == 202
        served.worker.answer("alice", "m1", "one")
        async with asyncio.timeout(60):  # no watcher, so no hint: the outcomes are read at intervals
            while (await served.say(alice, {"text": "x", "message_id": "m3"})).status_code != 202:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        async with stream(served, alice):
            await eventually(lambda: listening(served))
            served.worker.answer("alice", "m2", "two")
            await eventually(
                lambda: list(served.app.ctx.gateway.backlog._conversations["demo:alice"].messages) == ["m3"]
            )


async def test_limit_of_unanswered_messages_refuses_none_without_redis(valkey):
    """Without Redis the gateway can't know which messages are answered, so it accepts them."""
    redis_settings = valkey.settings
    valkey.stop()
    try:
        async with serve(redis_settings, settings(max_unanswered=2)) as served:
            token = await served.token("alice")
            codes = [(await served.say(token, {"text": "x", "message_id": f"m{n}"})).status_code for n in range(3)]
            assert codes == [202] * 3
    finally:
        valkey.start()
