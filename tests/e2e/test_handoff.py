"""Hand-overs on the whole system: agent and customer talk while processes are killed, and the assistant comes back."""

import asyncio
import json
import uuid

import httpx
import orjson
import pytest
import redis.asyncio
from playwright.async_api import async_playwright, expect

from kefu.events import ANSWERS, AUDIT, DIALOGUE_EVENTS, USER_QUERY
from ops.local.stack import Stack, free_ports
from tests.e2e.customers import known_customer
from tests.e2e.test_chat_page import CHROMIUM, FLAGS, say
from tests.e2e.test_promises import records_on
from tests.waiting import eventually

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(400)]
WAIT_S = 60  # KEFU_HANDOFF_WAIT_S: a hand-over that no agent takes ends after this time
PHONE = "13800001234"


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    settings = {"KEFU_USER_RATE": "0", "KEFU_DESK_RATE": "0", "KEFU_HANDOFF_WAIT_S": str(WAIT_S)}
    system = Stack(tmp_path_factory.mktemp("handoff"), free_ports(), overrides=settings)
    try:
        system.start()
        yield system
    finally:
        system.stop()


@pytest.fixture
async def client(stack):
    async with httpx.AsyncClient(base_url=stack.url("gateway"), timeout=60) as client:
        yield client


class Agent:
    """An agent at the desk, who repeats requests until they are answered."""

    def __init__(self, stack, client, name="li.wei", **claims):
        self.client = client
        self.headers = {"Authorization": f"Bearer {stack.desk_token(name, **claims)}"}

    async def listed(self, status="waiting"):
        answer = await self._patiently("get", f"/v1/desk/conversations?status={status}")
        assert answer.status_code == 200, answer.text
        return {each["user"]: each for each in answer.json()["conversations"]}

    async def waiting(self, who):
        """Return the customer's hand-over once it is listed."""

        async def entry():
            return (await self.listed()).get(who.user)

        return await eventually(entry, f"{who.user} in the desk's list")

    async def read(self, who, after=0, wait=0):
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        return await self._patiently("get", f"/v1/desk/conversations/{who.user}?after={after}", headers=headers)

    async def ask(self, who, what, handoff, message_id=None, **body):
        body = {"handoff": handoff, "message_id": message_id or uuid.uuid4().hex, **body}
        return await self._patiently("post", f"/v1/desk/conversations/{who.user}/{what}", json=body)

    async def _patiently(self, method, path, headers=None, **content):
        """Repeat a request until it has an answer other than 202, 429 and 503."""
        headers = {**self.headers, **(headers or {})}

        async def answered():
            answer = await self.client.request(method, path, headers=headers, **content)
            return None if answer.status_code in (202, 429, 503) else answer

        return await eventually(answered, f"{method} {path} to be answered", not_yet=(httpx.TransportError,))


def customer(stack, client):
    return known_customer(client, f"h{uuid.uuid4().hex[:8]}", stack.token_secret)


async def replies_of(who, count):
    async def enough():
        replies = await who.replies()
        return replies if len(replies) >= count else None

    return await eventually(enough, f"{count} replies")


async def answered(who, text):
    """Send a text and wait for its outcome."""
    return await who.outcome(await who.send(text))


async def handed_over(agent, who, text="转人工"):
    await answered(who, text)
    return (await agent.waiting(who))["handoff"]


async def stored(stack, who, *topics):
    """Return everything that Kafka and Redis hold about a customer, as text."""
    key = f"demo:{who.user}"
    held = [await asyncio.to_thread(records_on, stack, topic, {key}) for topic in topics]
    texts = [record.value.decode() for records in held for record in records]
    store = redis.asyncio.Redis.from_url(stack.settings["REDIS_URL"])
    try:
        state = await store.hgetall(f"kefu:{{{key}}}:state")
        turns = await store.lrange(f"kefu:{{{key}}}:turns", 0, -1)
        replies = await store.xrange(f"kefu:{{{key}}}:replies")
    finally:
        await store.aclose()
    return "\n".join([*texts, str(state), str(turns), str(replies)])


def numbered(replies):
    return [reply["seq"] for reply in replies] == list(range(1, len(replies) + 1))


async def test_assistant_is_silent_from_hand_over_to_return(stack, client):
    """An agent takes the hand-over, talks with the customer and returns it; then the assistant answers again.

    After the return the agent's messages are refused. Phone numbers are masked in everything that is stored.
    """
    who, agent = customer(stack, client), Agent(stack, client)
    await answered(who, "你好")
    outcome = await answered(who, "转人工")
    assert "转人工" in outcome["replies"][-1]["text"]
    shown = await agent.waiting(who)
    assert shown["summary"]["asked"] == "你好" and shown["status"] == "waiting"
    async with client.stream("GET", "/v1/stream", headers=who.headers) as stream:
        lines = stream.aiter_lines()
        taken = await agent.ask(who, "take", shown["handoff"])
        assert taken.status_code == 200
        said = await agent.ask(who, "messages", shown["handoff"], text=f"您好，我的电话是{PHONE}")
        streamed = []
        while len(streamed) < 4:
            line = await asyncio.wait_for(anext(lines), 60)
            if line.startswith("data:") and "seq" in line:
                streamed.append(json.loads(line[5:]))
    assert streamed[-1] == said.json()["replies"][0]
    assert streamed[-1]["text"] == "您好，我的电话是*******1234" and "agent" in streamed[-1]["custom"]
    page = (await agent.read(who)).json()
    waiting = asyncio.create_task(agent.read(who, after=page["version"], wait=30))
    silent = await answered(who, f"我的是{PHONE}，订单20260001到哪了")
    assert (silent["status"], silent["replies"]) == ("answered", [])
    heard = (await waiting).json()["messages"]
    assert [(each["from"], each["text"]) for each in heard] == [("customer", "我的是*******1234，订单20260001到哪了")]
    assert (await agent.ask(who, "return", shown["handoff"])).status_code == 200
    assert (await answered(who, "谢谢"))["replies"], "the assistant answers again"
    replies = await who.replies()
    assert numbered(replies) and replies[: len(streamed)] == streamed
    late = await agent.ask(who, "messages", shown["handoff"], text="还有一件事")
    assert (late.status_code, late.json()["type"]) == (409, "urn:kefu:problem:handoff-ended")
    assert await who.replies() == replies
    assert PHONE not in await stored(stack, who, USER_QUERY, DIALOGUE_EVENTS, ANSWERS, AUDIT)


async def events_of(stack, topic, key):
    """Return the events of a conversation in order, each once: a repeated request has the same ids."""
    records = await asyncio.to_thread(records_on, stack, topic, key)
    events = [orjson.loads(record.value) for record in records]
    return list({event["id"]: event for event in events}.values())


async def test_desk_requests_are_on_the_inbox_and_in_the_audit(stack, client):
    """Take, read, message and return give audit entries with the agent's name. A request sent twice has one id."""
    who, agent = customer(stack, client), Agent(stack, client)
    key = {f"demo:{who.user}"}
    handoff = await handed_over(agent, who)

    async def on_the_inbox():
        # A hand-over is listed before it is published. Taken at once, it could follow its HandoffTaken on the inbox.
        return handoff in [each["id"] for each in await events_of(stack, USER_QUERY, key)]

    await eventually(on_the_inbox, "the record on the inbox")
    await agent.ask(who, "take", handoff, "k1")
    await agent.ask(who, "take", handoff, "k1")
    await agent.read(who)
    await agent.ask(who, "messages", handoff, "k2", text="您好")
    await agent.ask(who, "return", handoff, "k3")
    inbox = await events_of(stack, USER_QUERY, key)
    kinds = [each["type"] for each in inbox]
    assert kinds == ["UserSaid", "HandoffStarted", "HandoffTaken", "AgentSaid", "HandoffEnded"]
    assert inbox[1]["id"] == handoff and inbox[1]["summary"]["asked"] == "转人工"
    audit = await events_of(stack, AUDIT, key)
    assert [each["action"] for each in audit] == ["handoff.take", "handoff.read", "handoff.say", "handoff.end"]
    assert {each["actor"] for each in audit} == {"li.wei"} and {each["subject"] for each in audit} == {handoff}


async def test_only_one_of_two_agents_takes_a_hand_over(stack, client):
    """Both ask at the same time. The outcome survives a crash of worker, gateway, Redis and Kafka."""
    who = customer(stack, client)
    li, zhang = Agent(stack, client), Agent(stack, client, "zhang.min")
    handoff = await handed_over(li, who)
    both = await asyncio.gather(li.ask(who, "take", handoff), zhang.ask(who, "take", handoff))
    assert sorted(answer.status_code for answer in both) == [200, 409]
    winner, loser = (li, zhang) if both[0].status_code == 200 else (zhang, li)
    # A hand-over in which the agent has answered has no timer that could end it while all servers are away.
    assert (await winner.ask(who, "messages", handoff, text="one moment")).status_code == 200
    for name in ("worker", "gateway", "redis", "kafka"):
        stack.kill(name)
    for name in ("redis", "kafka", "gateway", "worker"):
        await asyncio.to_thread(stack.wait_ready, name)
    refused = await loser.ask(who, "messages", handoff, text="hi")
    assert refused.status_code == 409
    message_id = uuid.uuid4().hex
    twice = await asyncio.gather(*(winner.ask(who, "messages", handoff, message_id, text="hello") for _ in range(2)))
    assert twice[0].status_code == twice[1].status_code == 200 and twice[0].json() == twice[1].json()
    spoken = [reply for reply in await who.replies() if reply.get("text") == "hello"]
    assert len(spoken) == 1 and numbered(await who.replies())
    assert (await winner.ask(who, "return", handoff)).status_code == 200


async def test_agents_messages_stay_in_order_when_the_worker_dies(stack, client):
    """The worker is killed twice while an agent sends eight messages; the customer gets each once."""
    who, agent = customer(stack, client), Agent(stack, client)
    handoff = await handed_over(agent, who)
    assert (await agent.ask(who, "take", handoff)).status_code == 200
    texts = [f"第{number}句" for number in range(8)]
    for number, text in enumerate(texts):
        if number in (2, 5):
            stack.kill("worker")
        assert (await agent.ask(who, "messages", handoff, text=text)).status_code == 200
        await who.send("嗯")
    replies = await who.replies()
    assert [reply["text"] for reply in replies if "第" in reply["text"]] == texts
    assert numbered(replies)
    assert (await agent.ask(who, "return", handoff)).status_code == 200


async def test_unanswered_hand_over_returns_to_the_assistant(stack, client):
    """No agent takes it for KEFU_HANDOFF_WAIT_S, and the worker is killed meanwhile. The customer is told."""
    who, agent = customer(stack, client), Agent(stack, client)
    handoff = await handed_over(agent, who, "I want to talk to a human agent")
    stack.kill("worker")
    await who.send("hello?")
    replies = await replies_of(who, 2)
    assert "none of our staff" in replies[1]["text"] and numbered(replies)
    late = await agent.ask(who, "take", handoff)
    assert (late.status_code, late.json()["type"]) == (409, "urn:kefu:problem:handoff-ended")
    assert who.user not in await agent.listed()
    assert (await agent.read(who)).status_code == 404
    assert (await answered(who, "thank you"))["replies"]


async def test_chat_page_names_a_person_as_the_speaker(stack, client):
    """An agent's message is labelled 人工客服 (human agent)."""
    agent = Agent(stack, client)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await (await browser.new_context(locale="zh-CN")).new_page()
        await page.goto(stack.url("gateway"))
        before = set(await agent.listed())
        await page.get_by_role("button", name="访客").click()
        await say(page, "转人工")

        async def guest():
            return set(await agent.listed()) - before

        (user,) = await eventually(guest, "the guest in the desk's list")
        who = type("Guest", (), {"user": user})
        handoff = (await agent.waiting(who))["handoff"]
        await agent.ask(who, "take", handoff)
        await agent.ask(who, "messages", handoff, text="您好，我来帮您")
        await expect(page.locator(".theirs").last).to_contain_text("您好，我来帮您", timeout=60_000)
        await expect(page.locator(".theirs").last.locator(".speaker")).to_have_text("人工客服")
        await browser.close()
