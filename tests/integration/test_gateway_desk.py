"""The desk's API: its authentication, its lists and transcripts, its requests to the worker, and failing servers."""

import asyncio
import itertools
import json
from dataclasses import replace

import jsonschema
import pytest
import pytest_asyncio

from kefu.errors import SettingsError
from kefu.events import AgentSaid, HandoffEnded, HandoffTaken
from kefu.gateway.routes import desk as desk_routes
from kefu.gateway.routes.desk import OPENAPI
from kefu.settings import tenants
from tests.integration.desk_kit import SUMMARY, desk, desk_token
from tests.integration.gateway_kit import TENANTS, listening, running_valkey
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio
UNTAKEN = {"status": "waiting", "agent": None}


@pytest_asyncio.fixture
async def office(valkey):
    """A gateway with a desk; calls are made by the agent li.wei of the tenant demo."""
    async with desk(valkey.settings) as running:
        yield running


def kind(answer):
    return answer.json()["type"].removeprefix("urn:kefu:problem:")


def fits(path, method, answer):
    """Check a response against the OpenAPI document; return the response."""
    described = OPENAPI["paths"][path][method]["responses"][str(answer.status_code)]["content"]
    (media,) = described
    assert answer.headers["content-type"].startswith(media)
    schema = {**described[media]["schema"], "components": OPENAPI["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer.json())
    return answer


LIST, READ = "/v1/desk/conversations", "/v1/desk/conversations/{user}"


# Authentication


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        desk_token(exp=1),
        desk_token(secret=TENANTS["other"].desk_secret),
        desk_token(secret=TENANTS["demo"].token_secret),
        desk_token(aud=None),
        desk_token(aud="another"),
        desk_token(role=None),
        desk_token(role="customer"),
        desk_token(exp=None),
        desk_token("a b"),
        desk_token(name="x" * 65),
        desk_token(name="a\nb"),
    ],
)
async def test_an_invalid_desk_token_is_401(office, token):
    office.hand_over("alice")
    for answer in (
        await office.get("conversations", token),
        await office.get("conversations/alice", token),
        await office.post("conversations/alice/take", {"handoff": "0" * 32}, token),
    ):
        assert (answer.status_code, kind(answer)) == (401, "unauthorized")


async def test_customer_and_desk_tokens_are_not_interchangeable(office):
    customer = await office.served.token("alice")
    assert (await office.get("conversations", customer)).status_code == 401
    assert (await office.served.say(office.token)).status_code == 401


async def test_desk_of_a_tenant_without_a_desk_secret_is_401(valkey):
    bare = {name: replace(tenant, desk_secret="") for name, tenant in TENANTS.items()}
    async with desk(valkey.settings, tenants=bare) as running:
        for secret in (TENANTS["demo"].desk_secret, TENANTS["demo"].token_secret):
            assert (await running.get("conversations", desk_token(secret=secret))).status_code == 401


@pytest.mark.parametrize("desk_secret", ["t" * 40, 7])
async def test_a_desk_secret_equal_to_another_key_is_refused(desk_secret):
    keys = {"site_key": "s", "identity_secret": "i", "token_secret": "t" * 40, "desk_secret": desk_secret}
    with pytest.raises(SettingsError) as error:
        tenants({"KEFU_TENANTS": json.dumps({"demo": keys})})
    assert "t" * 40 not in str(error.value)


async def test_desk_viewer_may_read_but_not_act(office):
    handoff = office.hand_over("alice")
    viewer = desk_token("li.wei", role="viewer")
    assert (await office.get("conversations", viewer)).status_code == 200
    assert (await office.get("conversations/alice", viewer)).status_code == 200
    for what in ("take", "messages", "return"):
        answer = await office.post(f"conversations/alice/{what}", {"handoff": handoff, "text": "hi"}, viewer)
        assert (answer.status_code, kind(answer)) == (403, "forbidden")
    assert office.served.inbox.audited == []


# Lists and transcripts


async def test_desk_lists_hand_overs_oldest_first(office):
    """A list shows the summaries without the customer's words, and filters by status."""
    later, first = office.hand_over("bob", since=2000), office.hand_over("alice", since=1000)
    office.hand_over("carol", since=1500, status="taken", agent="li.wei", taken_at=1600)
    answer = fits(LIST, "get", await office.get("conversations"))
    shown = answer.json()["conversations"]
    assert [(each["user"], each["handoff"]) for each in shown] == [("alice", first), ("bob", later)]
    assert shown[0]["summary"] == {name: value for name, value in SUMMARY.items() if name != "turns"}
    mine = (await office.get("conversations?status=mine")).json()["conversations"]
    assert [each["user"] for each in mine] == ["carol"]
    assert (await office.get("conversations?status=mine", desk_token("other"))).json()["conversations"] == []
    taken = (await office.get("conversations?status=taken", desk_token("other"))).json()["conversations"]
    assert [(each["user"], each["agent"]) for each in taken] == [("carol", "li.wei")]
    assert (await office.get("conversations?status=all")).status_code == 400


async def test_desk_does_not_list_an_ended_hand_over(office):
    """The index in Redis may still name it."""
    office.hand_over("alice")
    office.hand_over("bob")
    office.end("alice")
    assert [each["user"] for each in (await office.get("conversations")).json()["conversations"]] == ["bob"]


async def test_long_list_of_hand_overs_is_cut_and_marked_as_such(office, monkeypatch):
    monkeypatch.setattr(desk_routes, "MAX_SHOWN", 2)
    for number in range(3):
        office.hand_over(f"u{number}", since=1000 + number)
    body = (await office.get("conversations")).json()
    assert ([each["user"] for each in body["conversations"]], body["more"]) == (["u0", "u1"], True)


async def test_desk_hides_hand_overs_of_other_tenants(office):
    theirs = office.hand_over("alice", tenant="other")
    got = office.judged()
    assert (await office.get("conversations")).json()["conversations"] == []
    assert (await office.get("conversations/alice")).status_code == 404
    answer = await office.post("conversations/alice/take", {"handoff": theirs})
    assert (answer.status_code, kind(answer), got) == (409, "handoff-ended", [])
    stranger = desk_token(tenant="other")
    shown = (await office.get("conversations", stranger)).json()["conversations"]
    assert [each["handoff"] for each in shown] == [theirs]


async def test_desk_transcript_has_all_three_speakers_masked(office):
    """The speakers are customer, assistant and agent."""
    handoff = office.hand_over("alice")
    office.turn(
        "alice",
        1,
        {"event": "user", "text": "call 13800001234", "metadata": {}},
        {"event": "slot", "name": "x", "value": 1},
        {"event": "bot", "text": "sure", "data": {"buttons": [{"title": "Yes", "payload": "/affirm"}]}},
    )
    office.turn("alice", 3, {"event": "user", "text": "EXTERNAL: x", "metadata": {"is_external": True}})
    office.turn("alice", 4, {"event": "agent", "text": "mail a@example.com", "metadata": {"agent": "li.wei"}})
    answer = fits(READ, "get", await office.get("conversations/alice"))
    body = answer.json()
    assert (body["handoff"], body["version"], body["summary"]) == (handoff, 4, SUMMARY)
    speakers = [(each["from"], each["text"]) for each in body["messages"]]
    assert speakers == [("customer", "call *******1234"), ("assistant", "sure"), ("agent", "mail [email]")]
    assert (body["messages"][1]["buttons"], body["messages"][2]["agent"]) == (["Yes"], "li.wei")
    newer = (await office.get("conversations/alice?after=1")).json()
    assert [each["from"] for each in newer["messages"]] == ["agent"]
    assert (await office.get("conversations/alice?after=4")).json()["messages"] == []


async def test_reading_a_transcript_is_audited(office):
    """Not audited is a transcript without messages."""
    handoff = office.hand_over("alice")
    await office.get("conversations/alice")
    assert office.served.inbox.audited == []
    office.turn("alice", 1, {"event": "user", "text": "hi"})
    await office.get("conversations/alice?after=0")
    (entry,) = office.served.inbox.audited
    assert (entry.action, entry.actor, entry.user, entry.subject) == ("handoff.read", "li.wei", "alice", handoff)


async def test_transcript_of_a_conversation_without_hand_over_is_404(office):
    office.turn("alice", 1, {"event": "user", "text": "private"})
    for path in ("conversations/alice", "conversations/nobody", "conversations/a%20b"):
        answer = await office.get(path)
        assert answer.status_code == 404 and "private" not in answer.text


async def test_waiting_transcript_request_returns_the_next_message(office, only_hints):
    office.hand_over("alice")
    waiting = asyncio.create_task(office.get("conversations/alice?after=0", prefer="wait=20"))
    await eventually(lambda: listening(office.served))
    office.turn("alice", 1, {"event": "user", "text": "hello?"})
    body = (await waiting).json()
    assert [each["text"] for each in body["messages"]] == ["hello?"]
    later = await office.get("conversations/alice?after=1", prefer="wait=1")
    assert (later.status_code, later.json()["messages"]) == (200, [])


async def test_waiting_transcript_request_is_404_after_the_hand_over(office, only_hints):
    office.hand_over("alice")
    waiting = asyncio.create_task(office.get("conversations/alice", prefer="wait=20"))
    await eventually(lambda: listening(office.served))
    office.end("alice")
    office.turn("alice", 1, {"event": "resume"})
    assert (await waiting).status_code == 404


# Requests to the worker


@pytest.mark.parametrize(
    ("what", "body", "made", "action"),
    [
        ("take", {}, HandoffTaken, "handoff.take"),
        ("messages", {"text": "call 13800001234"}, AgentSaid, "handoff.say"),
        ("return", {}, HandoffEnded, "handoff.end"),
    ],
)
async def test_desk_request_reaches_the_worker_once_and_is_audited(office, what, body, made, action):
    """An agent takes, answers or returns a hand-over, and repeats the request."""
    handoff = office.hand_over("alice")
    got = office.judged("answered", None, "a reply")
    path = READ + f"/{what}"
    token = desk_token(name="Li 13900001234")
    asked = {"handoff": handoff, **body, "message_id": "k1"}
    first = fits(path, "post", await office.post(f"conversations/alice/{what}", asked, token))
    assert first.status_code == 200
    assert (first.json()["message_id"], [each["text"] for each in first.json()["replies"]]) == ("k1", ["a reply"])
    again = await office.post(f"conversations/alice/{what}", {"handoff": handoff, **body}, token, idempotency_key="k1")
    assert again.json() == first.json()
    (event,) = got
    assert (type(event), event.tenant, event.user, event.handoff) == (made, "demo", "alice", handoff)
    assert event.agent == "li.wei"
    if made is AgentSaid:
        assert (event.text, event.name) == ("call *******1234", "Li *******1234")
    (entry,) = office.served.inbox.audited
    assert (entry.action, entry.subject, entry.details) == (action, handoff, {"event": event.id})


async def test_one_id_of_two_agents_or_customers_is_two_requests(office):
    """Two requests with one message id are the same only for the same agent and customer."""
    ids = set()
    for user in ("alice", "bob"):
        handoff = office.hand_over(user)
        got = office.judged()
        for agent in ("li.wei", "zhang.min"):
            body = {"handoff": handoff, "message_id": "k1"}
            assert (await office.post(f"conversations/{user}/take", body, desk_token(agent))).status_code == 200
        ids |= {event.id for event in got}
    assert len(ids) == 4


@pytest.mark.parametrize("reason", ["handoff_ended", "handoff_taken", "handoff_not_taken"])
async def test_desk_request_refused_by_the_worker_is_409(office, reason):
    handoff = office.hand_over("alice")
    got = office.judged("refused", reason)
    for _ in range(2):
        answer = await office.post("conversations/alice/take", {"handoff": handoff, "message_id": "k1"})
        fits(READ + "/take", "post", answer)
        assert (answer.status_code, kind(answer)) == (409, reason.replace("_", "-"))
    assert len(got) == 1


async def test_desk_request_for_an_unknown_hand_over_is_409(office):
    """The worker gets no event of it."""
    got = office.judged()
    first = office.hand_over("alice", since=1)
    office.hand_over("alice", since=2)
    for path, handoff in (("alice", first), ("nobody", "0" * 32)):
        answer = await office.post(f"conversations/{path}/take", {"handoff": handoff})
        assert (answer.status_code, kind(answer)) == (409, "handoff-ended")
    assert got == [] and office.served.inbox.audited == []


async def test_desk_request_that_became_a_dead_letter_is_500(office):
    handoff = office.hand_over("alice")
    office.judged("failed", "internal_error")
    answer = await office.post("conversations/alice/take", {"handoff": handoff})
    assert (answer.status_code, kind(answer)) == (500, "desk-failed")


async def test_slow_desk_request_is_202_and_its_repetition_gets_the_result(office, monkeypatch):
    monkeypatch.setattr(desk_routes, "OUTCOME_S", 0.3)
    handoff = office.hand_over("alice")
    asked = {"handoff": handoff, "message_id": "k1"}
    answer = fits(READ + "/take", "post", await office.post("conversations/alice/take", asked))
    assert (answer.status_code, answer.json()) == (202, {"message_id": "k1", "status": "queued"})
    monkeypatch.setattr(desk_routes, "OUTCOME_S", 10.0)
    office.judged()
    assert (await office.post("conversations/alice/take", asked)).json()["status"] == "done"


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        ({}, 400, "malformed"),
        ({"handoff": 7}, 400, "malformed"),
        ({"handoff": "a b", "text": "x"}, 400, "malformed"),
        ({"handoff": "0" * 32}, 400, "malformed"),
        ({"handoff": "0" * 32, "text": 7}, 400, "malformed"),
        ({"handoff": "0" * 32, "text": "x", "message_id": "a b"}, 400, "malformed"),
        ({"handoff": "0" * 32, "text": "  "}, 422, "text-empty"),
        ({"handoff": "0" * 32, "text": "x" * 4001}, 422, "text-too-long"),
    ],
)
async def test_malformed_desk_request_is_refused_and_not_sent(office, body, status, problem):
    got = office.judged()
    answer = await office.post("conversations/alice/messages", body)
    assert (answer.status_code, kind(answer), got) == (status, problem, [])


async def test_desk_requests_of_each_agent_are_rate_limited(valkey):
    async with desk(valkey.settings, desk_rate=0.5) as running:
        calls = itertools.count()  # a clock of the test: on a slow machine the bucket would fill between calls
        running.served.app.ctx.gateway.desk_rate._clock = lambda: next(calls) / 1000
        assert (await running.get("conversations")).status_code == 200
        answer = await running.get("conversations")
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
        assert (await running.get("conversations", desk_token("zhang.min"))).status_code == 200


# Unavailable servers


async def test_desk_without_kafka_is_503(office):
    """Neither a change nor a read happens without its audit entry."""
    handoff = office.hand_over("alice")
    office.turn("alice", 1, {"event": "user", "text": "hi"})
    got = office.judged()
    office.served.inbox.away = True
    asked = {"handoff": handoff, "message_id": "k1"}
    answer = fits(READ + "/take", "post", await office.post("conversations/alice/take", asked))
    assert (answer.status_code, kind(answer), got) == (503, "queue-unavailable", [])
    assert "retry-after" in answer.headers
    assert (await office.get("conversations/alice")).status_code == 503, "a read that can't be audited shows nothing"
    office.served.inbox.away = False
    assert (await office.post("conversations/alice/take", asked)).status_code == 200


async def test_desk_without_redis_is_503(tmp_path):
    with running_valkey(tmp_path) as server:
        async with desk(server.settings) as office:
            handoff = office.hand_over("alice")
            got = office.judged()
            server.stop()
            for answer in (
                await office.get("conversations"),
                await office.get("conversations/alice"),
                await office.post("conversations/alice/take", {"handoff": handoff}),
            ):
                assert (answer.status_code, kind(answer)) == (503, "store-unavailable")
            assert got == []


async def test_openapi_document_of_the_desk_names_every_route(office):
    answer = await office.served.client.get("/v1/desk/openapi.json")
    assert answer.json() == OPENAPI
    served = {
        (f"/{route.path}".replace("<user:str>", "{user}"), method.lower())
        for route in office.served.app.router.routes
        if route.path.startswith("v1/desk/")
        for method in route.methods
    }
    assert served == {(path, method) for path, found in OPENAPI["paths"].items() for method in found}
