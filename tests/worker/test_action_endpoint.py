"""The way to the action server: a budget, retries of what passes, one key a call, bounded answers."""

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
    """A real HTTP server that answers as a test says."""

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
    found = Server()
    app = web.Application()
    app.router.add_post("/webhook", found.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/webhook"
    yield found
    await runner.cleanup()


@pytest_asyncio.fixture
async def endpoint(server):
    found = ActionEndpoint(server.url, timeout_s=30.0)
    yield found
    await found.close()


async def test_a_passing_failure_is_tried_again_under_the_same_key(server, endpoint):
    CALLS.set(ActionCalls("m1", time.monotonic() + 60))
    server.answers = [web.Response(status=503), web.Response(status=502)]
    assert await endpoint.request(json=BODY) == {"events": []}
    assert server.keys == ["m1:action_track_order:0"] * 3


async def test_a_connection_that_was_opened_before_is_the_first_calls(server, endpoint, monkeypatch):
    monkeypatch.setattr(action_endpoint, "_CONNECTING", aiohttp.ClientTimeout(total=30))
    await endpoint.connect()
    connections = sum(len(each) for each in endpoint._pool.connector._conns.values())
    assert connections == 1 and not server.bodies, "nothing was asked of an action"
    await endpoint.request(json=BODY)
    assert sum(len(each) for each in endpoint._pool.connector._conns.values()) == 1


async def test_a_server_that_is_away_is_only_told_of(caplog):
    endpoint = ActionEndpoint("http://127.0.0.1:9/webhook", timeout_s=1.0)
    with caplog.at_level("WARNING", "kefu.worker.act.action_endpoint"):
        await endpoint.connect()
    await endpoint.close()
    told = [record.message for record in caplog.records if record.name == "kefu.worker.act.action_endpoint"]
    assert told == ["the action server can't be reached yet"]


async def test_the_second_call_of_an_action_has_another_key_and_a_rerun_the_same(server, endpoint):
    for _ in range(2):
        CALLS.set(ActionCalls("m1", time.monotonic() + 60))
        await endpoint.request(json=BODY)
        await endpoint.request(json=BODY)
    assert server.keys == ["m1:action_track_order:0", "m1:action_track_order:1"] * 2


async def test_an_actions_own_failure_is_not_repeated(server, endpoint):
    server.answers = [web.Response(status=500)]
    with pytest.raises(ClientResponseError):
        await endpoint.request(json=BODY)
    assert len(server.keys) == 1


async def test_a_server_that_does_not_answer_is_given_up_within_the_budget(server, endpoint):
    async def never():
        await asyncio.sleep(30)

    server.answers, endpoint._timeout_s = [never], 1.0
    with pytest.raises(aiohttp.ClientError):
        await asyncio.wait_for(endpoint.request(json=BODY), 20)


async def test_a_server_that_is_not_there_is_a_client_error():
    endpoint = ActionEndpoint("http://127.0.0.1:1/webhook", timeout_s=0.3)
    with pytest.raises(aiohttp.ClientError):
        await endpoint.request(json=BODY)
    await endpoint.close()


async def test_an_answer_that_no_record_could_hold_is_refused(server, endpoint):
    server.answers = [web.Response(text='"' + "x" * MAX_ANSWER_BYTES + '"')] * 20
    endpoint._timeout_s = 1.0
    with pytest.raises(aiohttp.ClientError):
        await endpoint.request(json=BODY)


async def test_what_the_shop_tells_is_masked_where_it_enters(server, endpoint):
    server.answers = [web.json_response({"responses": [{"text": "call 13800001234"}]})]
    assert await endpoint.request(json=BODY) == {"responses": [{"text": "call *******1234"}]}


async def test_the_domain_is_sent_when_it_is_asked_for_and_named_by_its_digest_otherwise(server, endpoint):
    domain = {"intents": ["greet"], "slots": {"order_number": {"type": "text"}}}
    CALLS.set(ActionCalls("m1", time.monotonic() + 60))
    server.answers = [web.Response(status=449)]
    await endpoint.request(json={**BODY, "domain": domain})
    await endpoint.request(json={**BODY, "domain": domain})
    await endpoint.request(json={**BODY, "domain": {"intents": ["other"]}})
    sent = [(body.get("domain"), body["domain_digest"]) for body in server.bodies]
    assert [each for each, _ in sent] == [None, domain, None, None]
    assert sent[0][1] == sent[1][1] == sent[2][1] != sent[3][1]
    assert server.keys[0] == server.keys[1] != server.keys[2]  # asked for, it is the same call


async def test_a_server_that_asks_for_the_domain_again_and_again_is_told_apart_from_a_slow_one(server, endpoint):
    server.answers = [web.Response(status=449), web.Response(status=449)]
    with pytest.raises(ClientResponseError) as error:
        await endpoint.request(json={**BODY, "domain": {"intents": []}})
    assert error.value.status == 449


async def test_who_waits_for_the_action_server_has_given_its_place_to_others(server, endpoint):
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
    async with Place(places):  # "hello" meanwhile
        answer.set()
        await asyncio.sleep(0.05)
        assert not waiting.done(), "it goes on when it has a place again"
    assert await asyncio.wait_for(waiting, 20) == {"events": []}
    assert places._value == 1


async def test_an_error_page_without_end_is_read_to_its_bound(server, endpoint):
    server.answers = [web.Response(status=500, body=b"x" * (MAX_ERROR_BYTES * 4))]
    with pytest.raises(ClientResponseError) as caught:
        await endpoint.request(json=BODY)
    assert len(caught.value.text) <= MAX_ERROR_BYTES


async def test_who_ran_out_of_time_at_the_action_server_waits_for_no_place():
    places = asyncio.Semaphore(1)

    async def turn():
        async with Place(places) as place:
            async with place.lent():
                await asyncio.sleep(3600)

    late = asyncio.ensure_future(asyncio.wait_for(turn(), 0.05))
    await asyncio.sleep(0.01)
    async with Place(places):  # somebody else works, for long
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(late), 20)
    assert places._value == 1


async def test_an_action_that_hangs_holds_up_no_other(server, endpoint):
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
