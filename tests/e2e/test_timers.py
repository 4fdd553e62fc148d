"""Reminders and silences on the whole system: each fires exactly once, also when processes die."""

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
REMIND_S = 12  # enough time for a test to look at the timer and to send another message before the reminder is due
PARTITIONS = 8
STILL_THERE = ("您还在吗", "Are you still there")
SCHEDULES, CANCELS, CHATS = "20260001", "20260002", "20260003"  # the order number tells the action what to do


class Actions(ThreadingHTTPServer):
    """An action server whose action sets and cancels a reminder. The real one is tested in tests/integration."""

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
    connection = redis.asyncio.Redis.from_url(stack.settings["REDIS_URL"])
    yield connection
    await connection.aclose()


def customer(stack, client):
    return known_customer(client, f"t{uuid.uuid4().hex[:8]}", stack.token_secret)


def customers(stack, client, count):
    return [customer(stack, client) for _ in range(count)]


async def replies_of(who, count):
    async def enough():
        replies = await who.replies()
        return replies if len(replies) >= count else None

    return await eventually(enough, f"{count} replies")


async def entries(store, who):
    """Return a conversation's entry in the indexes of due times, by partition."""
    by_partition = {}
    for partition in range(PARTITIONS):
        for member, due in await store.zrange(due_index("kefu", partition), 0, -1, withscores=True):
            if member.decode().split(" ")[1] == f"demo:{who.user}":
                by_partition[partition] = (member, due)
    return by_partition


async def timers_of(stack, who):
    records = await asyncio.to_thread(records_on, stack, USER_QUERY, {f"demo:{who.user}"})
    return [record for record in records if orjson.loads(record.value)["type"] != "UserSaid"]


async def settle(who):
    """Send one more message and return all replies. Its answer shows that all earlier events are handled."""
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
async def test_silence_in_a_form_is_asked_about_once(stack, client, question, words):
    """The words "Are you still there?" and the form's question come once, in the stream and in the list of replies.

    The same timer is then delivered twice more by Kafka.
    """
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


async def test_chat_page_shows_the_question_after_a_silence(stack):
    """The worker sends the question without a message of the customer."""
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
    """Return a customer whose messages are answered and who was never silent for IDLE_S between them.

    A stall of the machine can make a pause that long, and then the worker rightly asks about the silence. In this case
    a new customer sends the messages.
    """
    for _ in range(10):
        who, times = customer(stack, client), []
        for text in texts:
            if who.accepted:
                await asyncio.sleep(pause_s)
            began = time.monotonic()
            last = await who.send(text)
            times.append((began, time.monotonic()))
        if all(after - before < IDLE_S for (before, _), (_, after) in pairwise(times)):
            await who.outcome(last)
            return who
    raise AssertionError(f"none of ten customers could go on within {IDLE_S} s")


async def test_silence_without_an_open_question_is_not_asked_about(stack, client, store):
    """No question follows a greeting or a form that was left. Each new message postpones the question."""
    greeter = customer(stack, client)
    await greeter.send("hello")
    leaver = await never_silent(stack, client, ("查订单", "不用了"))
    # The talker pauses for half of IDLE_S: each message must restart the time of silence.
    talker = await never_silent(stack, client, ("track my order",) * 4, pause_s=IDLE_S / 2)
    await until_quiet(store, [talker, leaver, greeter])
    replies_of_each = [await settle(who) for who in (talker, leaver, greeter)]
    assert [len(asks(replies)) for replies in replies_of_each] == [1, 0, 0], "the talker falls silent in the end"


async def until_quiet(store, crowd):
    async def quiet():
        return not any([await entries(store, who) for who in crowd])

    await eventually(quiet, "indexes without these customers")


async def test_timers_due_while_the_worker_is_down_fire_once(stack, client, store):
    """Ten reminders and ten silences fall due after kill -9 of the worker and before its restart."""
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


async def test_timer_sent_again_by_a_restarted_worker_fires_once(stack, client, store):
    """The worker dies after it sent the timer to Kafka and before it removed the timer from Redis' index."""
    who = customer(stack, client)
    await who.send("查订单")

    async def scheduled():
        nonlocal who
        entry = await entries(store, who)
        if not entry and asks(await who.replies()):  # the timer has fired between two looks: try another customer
            who = customer(stack, client)
            await who.send("查订单")
        return entry

    ((partition, (member, due)),) = (await eventually(scheduled, "a timer in the index")).items()
    await replies_of(who, 2)
    stack.kill("worker")
    # A death at that moment leaves the timer both on Kafka and in the index: the test puts it back into the index.
    await store.zadd(due_index("kefu", partition), {member: due})
    await until_quiet(store, [who])
    assert len(asks(await settle(who))) == 1
    timers = [orjson.loads(record.value) for record in await timers_of(stack, who)]
    assert len(timers) >= 2 and len({timer["id"] for timer in timers}) == 1


async def test_timers_due_while_partitions_move_fire_once(stack, client, store):
    """A second worker joins and leaves while the silences of 30 customers fall due."""
    crowd = customers(stack, client, 30)
    await asyncio.gather(*(who.send("查订单") for who in crowd))
    second = stack.add_worker()
    await asyncio.gather(*(replies_of(who, 2) for who in crowd))
    await asyncio.to_thread(stack.wait_ready, second)
    await asyncio.gather(*(who.send("查订单") for who in crowd))
    stack.remove(second)
    await asyncio.gather(*(replies_of(who, 5) for who in crowd))  # "sure", the question, and "are you still there?"
    await until_quiet(store, crowd)
    for who in crowd:
        replies = await settle(who)
        assert len(asks(replies)) == 2
        assert [reply["seq"] for reply in replies] == list(range(1, len(replies) + 1))


async def test_reminder_fires_once_and_a_cancelled_one_never(stack, client, store):
    """An action sets the reminders, another message cancels one of them."""
    reminded, spared = customers(stack, client, 2)
    await asyncio.gather(*(who.send(f"查订单{SCHEDULES}") for who in (reminded, spared)))
    await replies_of(spared, 1)
    await spared.send(f"查订单{CANCELS}")
    await reminded.send(f"查订单{CHATS}")  # a message does not end this reminder (`kill_on_user_msg` is false)
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


async def test_timers_due_during_a_redis_outage_fire_once(stack, client, store):
    crowd = customers(stack, client, 10)
    await asyncio.gather(*(who.send("查订单") for who in crowd))
    await asyncio.gather(*(replies_of(who, 1) for who in crowd))
    stack.kill("redis", restart_after_s=IDLE_S)
    await asyncio.to_thread(stack.wait_ready, "redis")
    await asyncio.gather(*(replies_of(who, 2) for who in crowd))
    for who in crowd:
        assert len(asks(await settle(who))) == 1
