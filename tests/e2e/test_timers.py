"""Reminders and silences on the whole system: each comes, once, whatever dies in between."""

import asyncio
import json
import threading
import time
import uuid
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import httpx
import orjson
import pytest
import redis.asyncio
from confluent_kafka import Producer
from playwright.async_api import async_playwright, expect

from kefu.events import USER_QUERY
from kefu.keys import due_index
from ops.local.stack import PATIENCE, Stack, free_ports
from tests.e2e.customers import known_customer
from tests.e2e.test_chat_page import CHROMIUM, FLAGS, say
from tests.e2e.test_promises import records_on
from tests.waiting import eventually

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(300)]
IDLE_S = 4
REMIND_S = 12  # longer than it takes to look, and to say something more, before it comes
PARTITIONS = 8
STILL_THERE = ("您还在吗", "Are you still there")
SCHEDULES, CANCELS, CHATS = "20260001", "20260002", "20260003"  # what the action does, by order number


class Actions(ThreadingHTTPServer):
    """An action server whose action sets and cancels a reminder. The real one is in tests/integration."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Webhook)
        self.url = f"http://127.0.0.1:{self.server_port}/webhook"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Webhook(BaseHTTPRequestHandler):
    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(answer(call["next_action"], call["tracker"])).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def answer(action, tracker):
    number = tracker["slots"].get("order_number")
    if action.startswith("validate_"):
        entities = tracker["latest_message"]["entities"]
        named = [each["value"] for each in entities if each["entity"] == "order_number"]
        given = [{"event": "slot", "name": "order_number", "value": number} for number in named[-1:]]
        asked = None if named or number else "order_number"
        return {"events": [*given, {"event": "slot", "name": "requested_slot", "value": asked}], "responses": []}
    if action == "action_ask_order_number":
        return {"events": [], "responses": [{"response": "utter_ask_for_order_number"}]}
    at = datetime.now(timezone.utc) + timedelta(seconds=REMIND_S)
    reminder = {"event": "reminder", "intent": "thank", "date_time": at.isoformat(), "entities": None}
    reminder.update(name="look again", kill_on_user_msg=False)
    events = {SCHEDULES: [reminder], CANCELS: [{"event": "cancel_reminder", "name": "look again"}]}.get(number, [])
    done = {"event": "slot", "name": "order_number", "value": None}
    return {"events": [*events, done], "responses": [{"text": f"done {number}"}]}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    actions = Actions()
    settings = {"KEFU_USER_RATE": "0", "KEFU_IDLE_S": str(IDLE_S), "ACTION_ENDPOINT_URL": actions.url, **PATIENCE}
    system = Stack(tmp_path_factory.mktemp("timers"), free_ports(), overrides=settings)
    try:
        system.start()
        yield system
    finally:
        system.stop()
        actions.shutdown()


@pytest.fixture
async def client(stack):
    async with httpx.AsyncClient(base_url=stack.url("gateway"), timeout=30) as client:
        yield client


@pytest.fixture
async def store(stack):
    found = redis.asyncio.Redis.from_url(stack.settings["REDIS_URL"])
    yield found
    await found.aclose()


def customer(stack, client):
    return known_customer(client, f"t{uuid.uuid4().hex[:8]}", stack.token_secret)


def customers(stack, client, count):
    return [customer(stack, client) for _ in range(count)]


async def replies_of(who, count):
    async def enough():
        found = await who.replies()
        return found if len(found) >= count else None

    return await eventually(enough, f"{count} replies")


async def entries(store, who):
    """Return what the indexes hold of a conversation, by partition."""
    found = {}
    for partition in range(PARTITIONS):
        for member, due in await store.zrange(due_index("kefu", partition), 0, -1, withscores=True):
            if member.decode().split(" ")[1] == f"demo:{who.user}":
                found[partition] = (member, due)
    return found


async def timers_of(stack, who):
    records = await asyncio.to_thread(records_on, stack, USER_QUERY, {f"demo:{who.user}"})
    return [record for record in records if orjson.loads(record.value)["type"] != "UserSaid"]


async def settle(who):
    """Ask one more thing, whose answer shows that all before it in the partition has been handled."""
    last = await who.send("bye")

    async def answered():
        return any(reply["message_id"] == last for reply in await who.replies())

    await eventually(answered, "the answer")
    return await who.replies()


def asks(replies):
    return [reply for reply in replies if any(words in reply.get("text", "") for words in STILL_THERE)]


def send_again(stack, records):
    producer = Producer({"bootstrap.servers": stack.settings["KAFKA_BROKERS"], "partitioner": "murmur2_random"})
    for record in records:
        producer.produce(USER_QUERY, record.value, record.key)
    assert producer.flush(20) == 0


@pytest.mark.parametrize(("question", "words"), [("查订单", STILL_THERE[0]), ("track my order", STILL_THERE[1])])
async def test_silent_customer_is_asked_once_on_every_channel(stack, client, question, words):
    who = customer(stack, client)
    async with client.stream("GET", "/v1/stream", headers=who.headers) as stream:
        await who.send(question)
        lines = stream.aiter_lines()
        streamed = []
        while len(streamed) < 3:
            line = await asyncio.wait_for(anext(lines), 60)
            if line.startswith("data:") and "seq" in line:
                streamed.append(json.loads(line[5:]))
    assert words in streamed[1]["text"], "and the question again"
    assert [reply["seq"] for reply in streamed] == [1, 2, 3]
    assert await who.replies() == streamed
    (timer,) = await timers_of(stack, who)
    assert streamed[1]["message_id"] == orjson.loads(timer.value)["id"]
    send_again(stack, [timer, timer])
    assert len(asks(await settle(who))) == 1


async def test_the_page_shows_what_nobody_asked_for(stack):
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = await (await browser.new_context(locale="zh-CN")).new_page()
        await page.goto(stack.url("gateway"))
        await page.get_by_role("button", name="访客").click()
        await say(page, "查订单")
        await expect(page.locator(".theirs").nth(1)).to_contain_text(STILL_THERE[0], timeout=60_000)
        await expect(page.locator(".theirs")).to_have_count(3)
        await browser.close()


async def never_silent(stack, client, texts, pause_s=0):
    """Return a customer who has said all this, answered now, and was never silent for IDLE_S in between.

    A pause that a stall made so long is a silence, of which he is rightly asked: then another customer says it.
    """
    for _ in range(10):
        who, said = customer(stack, client), []
        for text in texts:
            if who.accepted:
                await asyncio.sleep(pause_s)
            began = time.monotonic()
            last = await who.send(text)
            said.append((began, time.monotonic()))
        if all(after - before < IDLE_S for (before, _), (_, after) in pairwise(said)):
            await who.outcome(last)
            return who
    raise AssertionError(f"none of ten customers could go on within {IDLE_S} s")


async def test_no_reminder_without_an_open_question(stack, client, store):
    greeter = customer(stack, client)
    await greeter.send("hello")
    leaver = await never_silent(stack, client, ("查订单", "不用了"))
    # The time between two messages is what is tried here.
    talker = await never_silent(stack, client, ("track my order",) * 4, pause_s=IDLE_S / 2)
    await until_quiet(store, [talker, leaver, greeter])
    found = [await settle(who) for who in (talker, leaver, greeter)]
    assert [len(asks(replies)) for replies in found] == [1, 0, 0], "the talker falls silent in the end"


async def until_quiet(store, crowd):
    async def quiet():
        return not any([await entries(store, who) for who in crowd])

    await eventually(quiet, "indexes without these customers")


async def test_a_worker_killed_before_a_timer_is_due_loses_none(stack, client, store):
    crowd = customers(stack, client, 20)
    await asyncio.gather(*(who.send(f"查订单{SCHEDULES}") for who in crowd[:10]))
    await asyncio.gather(*(who.send("查订单") for who in crowd[10:]))
    await asyncio.gather(*(replies_of(who, 1) for who in crowd))
    stack.kill("worker", restart_after_s=max(IDLE_S, REMIND_S))
    await asyncio.gather(*(replies_of(who, 2) for who in crowd))
    await until_quiet(store, crowd)
    for who in crowd:
        replies = await settle(who)
        last = 4 if asks(replies) else 3  # "are you there?" comes with the form's question
        assert [reply["seq"] for reply in replies] == list(range(1, last + 1))
    assert [len(asks(await who.replies())) for who in crowd] == [0] * 10 + [1] * 10


async def test_a_worker_killed_between_production_and_removal_fires_once(stack, client, store):
    who = customer(stack, client)
    await who.send("查订单")

    async def scheduled():
        nonlocal who
        found = await entries(store, who)
        if not found and asks(await who.replies()):  # it was there and has fired between two looks
            who = customer(stack, client)
            await who.send("查订单")
        return found

    ((partition, (member, due)),) = (await eventually(scheduled, "a timer in the index")).items()
    await replies_of(who, 2)
    stack.kill("worker")
    # What a death at that moment leaves behind: on Kafka, and still in the index.
    await store.zadd(due_index("kefu", partition), {member: due})
    await until_quiet(store, [who])
    assert len(asks(await settle(who))) == 1
    timers = [orjson.loads(record.value) for record in await timers_of(stack, who)]
    assert len(timers) >= 2 and len({timer["id"] for timer in timers}) == 1


async def test_timers_that_fall_due_while_partitions_move_fire_once_each(stack, client, store):
    crowd = customers(stack, client, 30)
    await asyncio.gather(*(who.send("查订单") for who in crowd))
    second = stack.add_worker()
    await asyncio.gather(*(replies_of(who, 2) for who in crowd))
    await asyncio.to_thread(stack.wait_ready, second)
    await asyncio.gather(*(who.send("查订单") for who in crowd))
    stack.remove(second)
    await asyncio.gather(*(replies_of(who, 5) for who in crowd))  # "sure", the question, and whether he is there
    await until_quiet(store, crowd)
    for who in crowd:
        replies = await settle(who)
        assert len(asks(replies)) == 2
        assert [reply["seq"] for reply in replies] == list(range(1, len(replies) + 1))


async def test_a_reminder_comes_once_and_not_at_all_when_cancelled(stack, client, store):
    reminded, spared = customers(stack, client, 2)
    await asyncio.gather(*(who.send(f"查订单{SCHEDULES}") for who in (reminded, spared)))
    await replies_of(spared, 1)
    await spared.send(f"查订单{CANCELS}")
    await reminded.send(f"查订单{CHATS}")  # it isn't killed by a message
    replies = await replies_of(reminded, 3)
    await until_quiet(store, [reminded, spared])
    (timer,) = await timers_of(stack, reminded)
    event = orjson.loads(timer.value)
    assert (event["type"], event["name"], replies[2]["message_id"]) == ("ReminderDue", "look again", event["id"])
    send_again(stack, [timer])
    assert [r["text"] for r in await settle(reminded)][:2] == [f"done {SCHEDULES}", f"done {CHATS}"]
    assert len(await reminded.replies()) == 4
    assert [r["text"] for r in await settle(spared)][:2] == [f"done {SCHEDULES}", f"done {CANCELS}"]
    assert len(await spared.replies()) == 3


async def test_redis_away_when_timers_fall_due_loses_none(stack, client, store):
    crowd = customers(stack, client, 10)
    await asyncio.gather(*(who.send("查订单") for who in crowd))
    await asyncio.gather(*(replies_of(who, 1) for who in crowd))
    stack.kill("redis", restart_after_s=IDLE_S)
    await asyncio.to_thread(stack.wait_ready, "redis")
    await asyncio.gather(*(replies_of(who, 2) for who in crowd))
    for who in crowd:
        assert len(asks(await settle(who))) == 1
