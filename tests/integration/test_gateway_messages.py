"""Accepting messages and returning their outcomes."""

import asyncio
import itertools
import logging
import time

import pytest

from tests.integration.gateway_kit import bearer, serve, settings
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio


async def post(served, content, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    head = {**bearer(await served.token()), "content-type": "application/json", **headers}
    return await served.client.post("/v1/messages", content=content, headers=head)


async def test_an_accepted_message_is_202_with_a_status_link(served):
    token = await served.token("alice")
    answer = await served.say(token, {"text": "hello", "message_id": "m:1@x"})
    body = answer.json()
    assert (answer.status_code, body["message_id"], body["status"]) == (202, "m:1@x", "queued")
    assert answer.headers["location"] == body["links"]["self"]
    status = await served.client.get(body["links"]["self"], headers=bearer(token))
    assert (status.status_code, status.json()) == (200, {"message_id": "m:1@x", "status": "queued"})


async def test_text_payload_and_metadata_are_masked(served):
    """The gateway masks personal data before it writes a message to Kafka."""
    body = {"text": "call 13800001234", "channel": "web", "metadata": {"note": ["mail a@example.com"], "n": 1}}
    await served.say(await served.token("alice"), body, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    await served.say(await served.token("alice"), {"payload": "/choose 13800001234"}, traceparent="nonsense")
    first, second = served.inbox.said
    assert (first.text, first.metadata) == ("call *******1234", {"note": ["mail [email]"], "n": 1})
    assert (first.channel, second.channel) == ("web", "rest")
    assert first.traceparent.startswith("00-aaa") and second.traceparent == ""
    assert second.payload == "/choose *******1234" and second.text is None
    assert abs(first.ts - time.time() * 1000) < 5000
    assert served.inbox.keys == ["demo:alice"] * 2


async def test_the_idempotency_key_is_the_message_id(served):
    """A message may carry its id in the body or in the header; two different ids are refused."""
    token = await served.token()
    for key, body in (("k1", {}), ('"k1"', {}), ("k1", {"message_id": "k1"})):
        assert (await served.say(token, {"text": "x", **body}, idempotency_key=key)).json()["message_id"] == "k1"
    differ = await served.say(token, {"text": "x", "message_id": "k2"}, idempotency_key="k1")
    assert (differ.status_code, differ.json()["type"]) == (400, "urn:kefu:problem:ids-differ")
    minted = (await served.say(token, {"text": "x"})).json()["message_id"]
    assert len(minted) == 32 and minted != "k1"


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        (b"", 400, "not-json"),
        (b"{", 400, "not-json"),
        (b'{"text":"\xff"}', 400, "not-json"),
        (rb'{"text":"\ud800"}', 400, "not-json"),
        (b'{"text":1e999}', 400, "not-json"),
        (b"[" * 2000, 400, "not-json"),
        (b'["text"]', 400, "malformed"),
        (b"{}", 400, "malformed"),
        (b'{"text":"a","payload":"/b"}', 400, "malformed"),
        (b'{"text":1}', 400, "malformed"),
        (b'{"payload":{}}', 400, "malformed"),
        (b'{"text":"a","message_id":1}', 400, "malformed"),
        (b'{"text":"a","message_id":""}', 400, "malformed"),
        (b'{"text":"a","message_id":"a b"}', 400, "malformed"),
        (b'{"text":"a","message_id":"%s"}' % (b"x" * 129), 400, "malformed"),
        (b'{"text":"a","metadata":[]}', 400, "malformed"),
        (b'{"text":"a","channel":"fax"}', 400, "malformed"),
        (b'{"text":""}', 422, "text-empty"),
        (b'{"text":" \\n\\t\\u3000"}', 422, "text-empty"),
        ('{"text":"%s"}' % ("字" * 4001), 422, "text-too-long"),
        (rb'{"text":"a\u0000b"}', 422, "text-has-nul"),
        (b'{"payload":" "}', 422, "payload-invalid"),
        (b'{"payload":"%s"}' % (b"x" * 1025), 422, "payload-invalid"),
        (b'{"text":"a","metadata":{"a":"%s"}}' % (b"x" * 5000), 422, "metadata-invalid"),
        (b'{"text":"a","metadata":{"a":%s1%s}}' % (b"[" * 9, b"]" * 9), 422, "metadata-invalid"),
        (b'{"text":"a","metadata":{"13800001234":1}}', 422, "metadata-invalid"),
        (b'{"text":"%s"}' % (b"x" * 70_000), 413, "too-large"),
    ],
)
async def test_invalid_message_is_refused_with_its_kind_of_problem(served, content, status, kind):
    answer = await post(served, content)
    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (problem["type"], problem["status"]) == (f"urn:kefu:problem:{kind}", status)
    assert not served.inbox.said


async def test_text_of_4000_four_byte_characters_is_accepted(served):
    assert (await post(served, '{"text":"%s"}' % ("😀" * 4000))).status_code == 202


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=gbk", ""]
)
async def test_message_of_another_content_type_is_415(served, kind):
    assert (await post(served, b'{"text":"a"}', content_type=kind)).status_code == 415


async def test_message_with_charset_utf8_is_accepted(served):
    assert (await post(served, b'{"text":"a"}', content_type="application/json; charset=UTF-8")).status_code == 202


async def test_waiting_request_returns_the_stored_replies(served, only_hints):
    """`Prefer: wait=30` makes the gateway hold the request until the worker has answered the message."""
    token = await served.token("alice")
    served.inbox.on_said = lambda said: asyncio.get_running_loop().call_later(
        0.2, served.worker.answer, said.user, said.message_id, "hi"
    )
    answer = await served.say(token, {"text": "hello", "message_id": "m1"}, prefer='respond-async, wait="30", wait=0')
    body = answer.json()
    assert (answer.status_code, body["status"], body["replies"][0]["text"]) == (200, "answered", "hi")
    assert answer.headers["preference-applied"] == "wait=30"
    again = await served.say(token, {"text": "hello", "message_id": "m1"}, prefer="wait=30")
    assert again.json() == body


async def test_waiting_request_returns_a_failure(served):
    served.inbox.on_said = lambda said: served.worker.answer(
        said.user, said.message_id, status="failed", reason="payload_not_offered"
    )
    answer = await served.say(await served.token(), {"payload": "/x"}, prefer="wait=30")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["reason"]) == ("failed", "payload_not_offered")


async def test_waiting_request_without_an_answer_ends_with_202(valkey):
    async with serve(valkey.settings, settings(wait_limit_s=0.3)) as served:
        began = time.monotonic()
        answer = await served.say(await served.token(), prefer="wait=60")
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        assert 0.25 < time.monotonic() - began < 30


@pytest.mark.parametrize("prefer", ["wait", "wait=", "wait=soon", "wait=-1", "wait=1.5", "wait=0", "await=9", ""])
async def test_malformed_prefer_header_is_ignored(served, prefer):
    answer = await served.say(await served.token(), prefer=prefer)
    assert answer.status_code == 202 and "preference-applied" not in answer.headers
    assert not served.app.ctx.gateway.hub._channels  # no wait, so no subscription


async def test_waiting_request_finds_an_answer_without_its_hint(served):
    """A hint is Redis' notification of an answer. The gateway also polls, because hints can be lost."""
    served.worker.hints = False
    served.inbox.on_said = lambda said: asyncio.get_running_loop().call_later(
        0.2, served.worker.answer, said.user, said.message_id, "hi"
    )
    began = time.monotonic()
    answer = await served.say(await served.token(), prefer="wait=60")
    assert answer.status_code == 200 and time.monotonic() - began < 30


async def test_an_answered_message_is_found_without_its_receipt(served):
    """A receipt is the signed part of the status link. It is needed only while Redis has no outcome."""
    token = await served.token("alice")
    served.worker.answer("alice", "m1", "hi")
    served.worker.answer("alice", "m2", status="failed", reason="turn_failed")
    first = await served.client.get("/v1/messages/m1", headers=bearer(token))
    second = await served.client.get("/v1/messages/m2", headers=bearer(token))
    assert (first.status_code, first.json()["replies"][0]["text"]) == (200, "hi")
    assert second.json() == {"message_id": "m2", "status": "failed", "reason": "turn_failed"}


async def test_a_receipt_is_valid_only_for_its_message_and_user(served):
    """Forged receipts, and those of others, get 404 for a message that is not yet answered."""
    alice, bob, stranger = await served.token("alice"), await served.token("bob"), await served.token("alice", "other")
    link = (await served.say(alice, {"text": "x", "message_id": "m1"})).json()["links"]["self"]
    receipt = link.partition("receipt=")[2]
    issued, _, signature = receipt.partition(".")
    forged = ["", "x", f"{int(issued) + 1}.{signature}", f"{issued}.{'0' * 64}", f"{issued}.", ".", f"é.{signature}"]
    tried = [(alice, "m2", receipt), (bob, "m1", receipt), (stranger, "m1", receipt)]
    for token, message_id, given in tried + [(alice, "m1", bad) for bad in forged]:
        path = f"/v1/messages/{message_id}"
        answer = await served.client.get(path, params={"receipt": given}, headers=bearer(token))
        assert answer.status_code == 404, (message_id, given)
    assert (await served.client.get("/v1/messages/a%20b", headers=bearer(alice))).status_code == 400


async def test_a_receipt_expires_with_the_marker(served):
    """A marker is the stored outcome of a message, kept for 7 days."""
    token = await served.token("alice")
    link = (await served.say(token)).json()["links"]["self"]
    later = time.time() + 7 * 24 * 3600 + 5
    served.app.ctx.gateway.receipts._clock = lambda: later
    assert (await served.client.get(link, headers=bearer(token))).status_code == 404


async def test_gateway_accepts_messages_without_redis(valkey):
    """Only requests that read answers get 503."""
    redis_settings = valkey.settings
    valkey.stop()
    try:
        async with serve(redis_settings) as served:
            token = await served.token("alice")
            answer = await served.say(token, {"text": "x", "message_id": "m1"}, prefer="wait=1")
            assert answer.status_code == 202
            for path in (answer.headers["location"], "/v1/replies"):
                away = await served.client.get(path, headers=bearer(token))
                assert (away.status_code, away.json()["type"]) == (503, "urn:kefu:problem:store-unavailable")
                assert int(away.headers["retry-after"]) > 0
    finally:
        valkey.start()


async def test_an_unacknowledged_message_is_503(served):
    """Kafka does not acknowledge the record in time; the client shall send the same message again."""
    served.inbox.away = True
    answer = await served.say(await served.token())
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:kefu:problem:queue-unavailable")
    assert int(answer.headers["retry-after"]) > 0 and "same" in answer.json()["detail"]


async def test_rate_limit_applies_to_each_user(valkey):
    async with serve(valkey.settings, settings(user_rate=1)) as served:
        calls = itertools.count()  # a clock of the test: on a slow machine the bucket would fill between calls
        served.app.ctx.gateway.user_rate._clock = lambda: next(calls) / 1000
        alice, bob = await served.token("alice"), await served.token("bob")
        answers = [await served.say(alice) for _ in range(4)]
        assert [answer.status_code for answer in answers][:2] == [202, 202]
        assert (answers[-1].status_code, answers[-1].headers["retry-after"]) == (429, "1")
        assert (await served.say(bob)).status_code == 202


async def test_request_beyond_the_limit_of_waits_gets_202_at_once(valkey):
    """The message itself is accepted."""
    async with serve(valkey.settings, settings(max_user_streams=1)) as served:
        token = await served.token("alice")
        slow = asyncio.create_task(served.say(token, {"text": "x", "message_id": "m1"}, prefer="wait=60"))
        await eventually(lambda: served.app.ctx.gateway.slots.open == 1)
        assert (await served.say(token, prefer="wait=60")).status_code == 202
        assert not slow.done()
        served.worker.answer("alice", "m1", "hi")
        assert (await slow).status_code == 200


async def test_cancelled_waiting_request_frees_its_slot(served, caplog):
    """The access log has the line with status 499, and no error."""
    caplog.set_level(logging.INFO, logger="kefu")
    gateway = served.app.ctx.gateway
    sender = asyncio.create_task(served.say(await served.token("alice"), prefer="wait=30"))
    await eventually(lambda: gateway.waits == 1)
    sender.cancel()
    await asyncio.wait([sender])

    def noted():
        gateway.access.flush()
        lines = [line for record in caplog.records if hasattr(record, "each") for line in record.each]
        return [line["status"] for line in lines if line["route"] == "/v1/messages"]

    await eventually(lambda: gateway.slots.open == 0 and not gateway.waits and noted())
    assert noted() == [499]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
