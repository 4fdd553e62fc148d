"""Stored replies and streams: complete, in order, and only the customer's own."""

import asyncio
import socket
import time

import jwt
import pytest

from tests.integration.gateway_kit import TENANTS, bearer, serve, settings, stream
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio


async def replies(served, token, after=""):
    answer = await served.client.get(
        "/v1/replies", params={"after": after} if after != "" else {}, headers=bearer(token)
    )
    return answer.json()["replies"]


async def test_replies_are_listed_in_order_in_pages_of_100(served):
    token = await served.token("alice")
    served.worker.answer("alice", "m1", *map(str, range(130)))
    assert [reply["seq"] for reply in await replies(served, token)] == list(range(1, 101))
    assert [reply["seq"] for reply in await replies(served, token, 100)] == list(range(101, 131))
    assert await replies(served, token, 130) == []


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "٣", "9" * 19, "1-0"])
async def test_a_malformed_sequence_number_is_400(served, after):
    token = await served.token()
    answer = await served.client.get("/v1/replies", params={"after": after}, headers=bearer(token))
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:kefu:problem:malformed")
    head = {**bearer(token), "Last-Event-ID": after.encode()}
    assert (await served.client.get("/v1/stream", headers=head)).status_code == 400


async def test_replies_are_visible_to_their_customer_only(served):
    served.worker.answer("alice", "m1", "hers")
    for token in (await served.token("bob"), await served.token("alice", "other"), await served.token()):
        assert await replies(served, token) == []
        assert (await served.client.get("/v1/messages/m1", headers=bearer(token))).status_code == 404
        async with stream(served, token) as events:
            with pytest.raises(TimeoutError):
                await events.next(0.3)


async def test_a_stream_sends_stored_and_new_replies(valkey, only_hints):
    async with serve(valkey.settings, settings(heartbeat_s=3600)) as served:
        token = await served.token("alice")
        served.worker.answer("alice", "m1", "one")
        async with stream(served, token) as events:
            assert (await events.next())["data"]["text"] == "one"
            served.worker.answer("alice", "m2", "two", "three", buttons=[{"title": "A", "payload": "/a"}])
            two, three = await events.next(), await events.next()
            assert (two["event"], two["id"], two["data"]["text"]) == ("reply", "2", "two")
            assert three["id"] == "3" and three["data"]["buttons"][0]["payload"] == "/a"


async def test_a_stream_continues_after_the_last_event_id(served):
    token = await served.token("alice")
    served.worker.answer("alice", "m1", *map(str, range(250)))
    async with stream(served, token, last_event_id="40") as events:
        got = [(await events.next())["id"] for _ in range(210)]
    assert got == [str(seq) for seq in range(41, 251)]


async def test_stream_sends_a_failure_without_an_event_id(served):
    """A client resumes the stream after the id of the last event; a failure has no place in the sequence."""
    async with stream(served, await served.token("alice")) as events:
        await eventually(lambda: served.app.ctx.gateway.hub.subscribed)
        served.worker.answer("alice", "m1", "sorry", status="failed", reason="turn_failed")
        assert (await events.next())["data"]["text"] == "sorry"
        failed = await events.next()
        assert failed["event"] == "failed" and "id" not in failed
        assert failed["data"] == {"message_id": "m1", "status": "failed", "reason": "turn_failed"}


async def test_two_streams_of_one_user_share_a_subscription(served):
    token = await served.token("alice")
    async with stream(served, token) as first, stream(served, token) as second:
        await eventually(lambda: served.app.ctx.gateway.hub.watched == 1)
        served.worker.answer("alice", "m1", "one")
        assert (await first.next())["id"] == (await second.next())["id"] == "1"
    await eventually(lambda: not served.app.ctx.gateway.hub.watched and served.app.ctx.gateway.slots.open == 0)


async def test_stream_finds_a_reply_without_its_hint(valkey):
    async with serve(valkey.settings, settings(heartbeat_s=3600)) as served:  # a heartbeat would read the replies, too
        served.worker.hints = False
        async with stream(served, await served.token("alice")) as events:
            await eventually(lambda: served.app.ctx.gateway.hub.subscribed)
            served.worker.answer("alice", "m1", "one")
            assert (await events.next())["id"] == "1"


async def test_stream_without_replies_sends_comments(valkey):
    """Proxies close connections without traffic."""
    async with serve(valkey.settings, settings(heartbeat_s=0.1)) as served:
        token, began = await served.token(), time.monotonic()
        async with stream(served, token) as events:
            reading = asyncio.create_task(events.next(60))
            await eventually(lambda: events.comments >= 3)
            assert not reading.done() and events.comments <= 1 + (time.monotonic() - began) / 0.1
            reading.cancel()
            await asyncio.wait([reading])


async def test_a_stream_loses_no_reply_when_redis_restarts(valkey, only_hints):
    async with serve(valkey.settings, settings(heartbeat_s=3600)) as served:
        token = await served.token("alice")
        async with stream(served, token) as events:
            served.worker.answer("alice", "m1", "one")
            assert (await events.next())["id"] == "1"
            valkey.stop()
            try:
                await eventually(lambda: not served.app.ctx.gateway.hub.connected)
                assert (await served.client.get("/readyz")).json()["degraded"] == ["redis"]
            finally:
                valkey.start()
            served.worker.answer("alice", "m2", "two")
            assert (await events.next())["id"] == "2"
            await eventually(lambda: served.app.ctx.gateway.hub.subscribed)
            served.worker.answer("alice", "m3", "three")
            assert (await events.next())["id"] == "3"


async def test_a_stream_opened_without_redis_is_served_later(valkey):
    redis_settings = valkey.settings
    valkey.stop()
    async with serve(redis_settings) as served:
        async with stream(served, await served.token("alice")) as events:
            valkey.start()
            served.worker.answer("alice", "m1", "one")
            assert (await events.next())["id"] == "1"


async def test_streams_beyond_either_limit_are_refused(valkey):
    """503 at the limit of the process, 429 at the limit of the user."""
    async with serve(valkey.settings, settings(max_streams=3, max_user_streams=2)) as served:
        alice, bob, carol = [await served.token(name) for name in ("alice", "bob", "carol")]
        async with stream(served, alice), stream(served, alice):
            greedy = await served.client.get("/v1/stream", headers=bearer(alice))
            assert (greedy.status_code, greedy.json()["type"]) == (429, "urn:kefu:problem:too-many-streams")
            async with stream(served, bob):
                full = await served.client.get("/v1/stream", headers=bearer(carol))
                assert (full.status_code, full.json()["type"]) == (503, "urn:kefu:problem:streams-full")
                assert int(full.headers["retry-after"]) > 0
        await eventually(lambda: served.app.ctx.gateway.slots.open == 0)
        async with stream(served, carol):
            pass


async def test_a_stream_that_is_not_read_buffers_one_page(served):
    token = await served.token("alice")
    for message in range(5):
        served.worker.answer("alice", f"m{message}", *["x" * 60_000] * 100)
    port = int(served.address.rpartition(":")[2])
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", port))
    reader.sendall(f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    await eventually(lambda: served.app.ctx.gateway.slots.open == 1)
    await asyncio.sleep(0.5)
    peak = await asyncio.to_thread(_written, served)
    assert peak < 10_000_000  # one page of 6 MB, not the 30 MB that wait in Redis
    reader.close()
    await eventually(lambda: served.app.ctx.gateway.slots.open == 0)


def _written(served):
    connections = [c for c in served.connections if c.transport and not c.transport.is_closing()]
    return sum(c.transport.get_write_buffer_size() for c in connections)


async def test_stream_ends_when_its_token_expires(served):
    claims = {"sub": "alice", "tenant": "demo", "exp": time.time() + 1}
    token = jwt.encode(claims, TENANTS["demo"].token_secret, algorithm="HS256")
    async with stream(served, token) as events:
        with pytest.raises(EOFError):
            await events.next()


async def test_draining_gateway_ends_streams_and_waiting_requests(valkey):
    """A gateway drains before it stops; its waiting requests get 202."""
    async with serve(valkey.settings, settings(drain_s=0.3)) as served:
        token = await served.token("alice")
        waiting = asyncio.create_task(served.say(token, prefer="wait=30"))
        async with stream(served, token) as events:
            await eventually(lambda: served.app.ctx.gateway.waits == 1)
            await served.app.ctx.gateway.drain()
            with pytest.raises(EOFError):
                await events.next()
        assert (await waiting).status_code == 202
        ready = await served.client.get("/readyz")
        assert ready.status_code == 503 and "stopping" in ready.json()["missing"]
        assert (await served.client.get("/v1/stream", headers=bearer(token))).status_code == 503
