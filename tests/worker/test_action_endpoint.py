"""Calls to the action server: time budget, retries, one idempotency key per call, bounded answers."""

import asyncio
import time

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from rasa.utils.endpoints import ClientResponseError

from kefu.worker.act import action_endpoint
from kefu.worker.act.action_endpoint import CALLS_AT_ONCE, MAX_ANSWER_BYTES, MAX_ERROR_BYTES, ActionEndpoint
from kefu.worker.act.calls import CALLS, PLACE, ActionCalls, Place

pytestmark = pytest.mark.asyncio
BODY = {"next_action": "action_track_order"}


class Server:
    """A real HTTP server whose answers the test sets."""

    def __init__(self):
        self.answers = []
        self.keys = []
        self.bodies = []

    async def handle(self, request):
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Idempotency-Key"))
        answer = self.answers.pop(0) if self.answers else web.json_response({"events": []})
        return await answer() if callable(answer) else answer


@pytest_asyncio.fixture
async def server():
    http_server = Server()
    app = web.Application()
    app.router.add_post("/webhook", http_server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    http_server.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/webhook"
    yield http_server
    await runner.cleanup()


@pytest_asyncio.fixture
async def endpoint(server):
    client = ActionEndpoint(server.url, timeout_s=30.0)
    yield client
    await client.close()


async def test_failed_action_call_is_retried_with_the_same_key(server, endpoint):
    """The action server answers 503, then 502, then 200."""
    CALLS.set(ActionCalls("m1", time.monotonic() + 60))
    server.answers = [web.Response(status=503), web.Response(status=502)]
    assert await endpoint.request(json=BODY) == {"events": []}
    assert server.keys == ["m1:action_track_order:0"] * 3


async def test_first_action_call_uses_the_connection_of_the_start(server, endpoint, monkeypatch):
    """The worker opens the connection at its start, without a call of an action."""
    monkeypatch.setattr(action_endpoint, "_CONNECTING", aiohttp.ClientTimeout(total=30))
    await endpoint.connect()
    connections = sum(len(each) for each in endpoint._pool.connector._conns.values())
    assert connections == 1 and not server.bodies, "nothing was asked of an action"
    await endpoint.request(json=BODY)
    assert sum(len(each) for each in endpoint._pool.connector._conns.values()) == 1


async def test_worker_logs_an_unavailable_action_server_and_starts(caplog):
    """The worker starts without the action server."""
    endpoint = ActionEndpoint("http://127.0.0.1:9/webhook", timeout_s=1.0)
    with caplog.at_level("WARNING", "kefu.worker.act.action_endpoint"):
        await endpoint.connect()
    await endpoint.close()
    messages = [record.message for record in caplog.records if record.name == "kefu.worker.act.action_endpoint"]
    assert messages == ["the action server can't be reached yet"]


async def test_each_call_of_an_action_has_its_own_key(server, endpoint):
    """A turn that runs again sends the same keys in the same order."""
    for _ in range(2):
        CALLS.set(ActionCalls("m1", time.monotonic() + 60))
        await endpoint.request(json=BODY)
        await endpoint.request(json=BODY)
    assert server.keys == ["m1:action_track_order:0", "m1:action_track_order:1"] * 2


async def test_status_500_of_an_action_is_not_retried(server, endpoint):
    server.answers = [web.Response(status=500)]
    with pytest.raises(ClientResponseError):
        await endpoint.request(json=BODY)
    assert len(server.keys) == 1


async def test_action_call_without_an_answer_ends_within_its_budget(server, endpoint):
    async def never():
        await asyncio.sleep(30)

    server.answers, endpoint._timeout_s = [never], 1.0
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(endpoint.request(json=BODY), 20)


async def test_refused_connection_to_the_action_server_is_an_error():
    endpoint = ActionEndpoint("http://127.0.0.1:1/webhook", timeout_s=0.3)
    with pytest.raises(aiohttp.ClientError):
        await endpoint.request(json=BODY)
    await endpoint.close()


async def test_action_answer_larger_than_a_kafka_record_is_refused(server, endpoint):
    server.answers = [web.Response(text='"' + "x" * MAX_ANSWER_BYTES + '"')] * 20
    endpoint._timeout_s = 1.0
    with pytest.raises(aiohttp.ClientError):
        await endpoint.request(json=BODY)


async def test_personal_data_in_an_action_answer_is_masked(server, endpoint):
    server.answers = [web.json_response({"responses": [{"text": "call 13800001234"}]})]
    assert await endpoint.request(json=BODY) == {"responses": [{"text": "call *******1234"}]}


async def test_domain_is_sent_only_if_the_action_server_asks_for_it(server, endpoint):
    """Every call carries the domain's digest. The call that is repeated with the domain keeps its key."""
    domain = {"intents": ["greet"], "slots": {"order_number": {"type": "text"}}}
    CALLS.set(ActionCalls("m1", time.monotonic() + 60))
    server.answers = [web.Response(status=449)]
    await endpoint.request(json={**BODY, "domain": domain})
    await endpoint.request(json={**BODY, "domain": domain})
    await endpoint.request(json={**BODY, "domain": {"intents": ["other"]}})
    sent = [(body.get("domain"), body["domain_digest"]) for body in server.bodies]
    assert [each for each, _ in sent] == [None, domain, None, None]
    assert sent[0][1] == sent[1][1] == sent[2][1] != sent[3][1]
    assert server.keys[0] == server.keys[1] != server.keys[2]  # the repetition with the domain is the same call


async def test_second_request_for_the_domain_fails_with_449(server, endpoint):
    """The action server asks with 449 for a domain that it has just got; the status tells this from a timeout."""
    server.answers = [web.Response(status=449), web.Response(status=449)]
    with pytest.raises(ClientResponseError) as error:
        await endpoint.request(json={**BODY, "domain": {"intents": []}})
    assert error.value.status == 449


async def test_call_to_the_action_server_gives_up_its_place(server, endpoint):
    """A turn needs one of the worker's places. Another turn runs during the call; then the first one continues."""
    places, asked, answer = asyncio.Semaphore(1), asyncio.Event(), asyncio.Event()

    async def slow():
        asked.set()
        await answer.wait()
        return web.json_response({"events": []})

    async def turn():
        async with Place(places) as place:
            PLACE.set(place)
            CALLS.set(ActionCalls("m1", time.monotonic() + 30))
            return await endpoint.request(json=BODY)

    server.answers = [slow]
    waiting = asyncio.ensure_future(turn())
    await asyncio.wait_for(asked.wait(), 20)
    async with Place(places):  # another turn runs meanwhile
        answer.set()
        await asyncio.sleep(0.05)
        assert not waiting.done(), "it goes on when it has a place again"
    assert await asyncio.wait_for(waiting, 20) == {"events": []}
    assert places._value == 1


async def test_error_page_of_the_action_server_is_read_up_to_a_bound(server, endpoint):
    server.answers = [web.Response(status=500, body=b"x" * (MAX_ERROR_BYTES * 4))]
    with pytest.raises(ClientResponseError) as caught:
        await endpoint.request(json=BODY)
    assert len(caught.value.text) <= MAX_ERROR_BYTES


async def test_turn_past_its_deadline_waits_for_no_place():
    """The deadline passes during a call, while another turn holds the only place."""
    places = asyncio.Semaphore(1)

    async def turn():
        async with Place(places) as place:
            async with place.lent():
                await asyncio.sleep(3600)

    late = asyncio.ensure_future(asyncio.wait_for(turn(), 0.05))
    await asyncio.sleep(0.01)
    async with Place(places):  # another turn holds the only place
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(late), 20)
    assert places._value == 1


async def test_hanging_action_does_not_delay_others(server, endpoint):
    hang = asyncio.Event()

    async def hangs():
        await hang.wait()
        return web.json_response({"events": []})

    server.answers = [hangs] * CALLS_AT_ONCE
    hanging = [asyncio.ensure_future(endpoint.request(json=BODY)) for _ in range(CALLS_AT_ONCE)]
    while len(server.bodies) < CALLS_AT_ONCE // 2:  # noqa: ASYNC110 - the server is asked by what is tested
        await asyncio.sleep(0.01)
    server.answers = []
    quick = endpoint.request(json={"next_action": "action_subscribe"})
    assert await asyncio.wait_for(quick, 20) == {"events": []}
    assert not any(each.done() for each in hanging)
    hang.set()
    await asyncio.gather(*hanging)
