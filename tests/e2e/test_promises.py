"""The platform's promises about messages, on the whole system, while processes are killed."""

import asyncio
import os
import signal
import uuid
from contextlib import closing

import httpx
import orjson
import pytest
import yaml
from confluent_kafka import Producer

from kefu.events import ANSWERS
from kefu.settings import KafkaSettings
from kefu.tools.topic_reader import TopicReader
from ops.local.servers import ROOT
from tests.e2e.customers import (
    TEXTS,
    Customer,
    check_promises,
    known_customer,
    shop_rows,
    wait_until_all_have_a_status,
    wait_until_answered,
)
from tests.waiting import eventually

NOT_FOUND = "utter_order_not_found"
pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(600)]


@pytest.fixture
async def client(stack):
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=stack.url("gateway"), timeout=30, limits=limits) as client:
        yield client


def crowd(stack, client, size):
    """Return customers that the shop does not know: their questions about orders have no side effect."""
    run = uuid.uuid4().hex[:8]
    return [known_customer(client, f"c{run}-{n}", stack.token_secret) for n in range(size)]


async def talk(customer, texts=TEXTS):
    for text in texts:
        await customer.send(text)


async def ask(client, token, text):
    customer = Customer(client, "", token)
    outcome = await customer.outcome(await customer.send(text))
    assert outcome["status"] == "answered", outcome
    return outcome["replies"][0]["text"]


def inquiries(stack):
    return shop_rows(stack, "SELECT count(*) FROM inquiries")[0][0]


async def wait_for_inquiries(stack, expected):
    """Wait until the shop has so many inquiries and no more: a busy shop gets them after the answers."""

    def stored():
        assert inquiries(stack) <= expected, "a question is counted twice"
        return inquiries(stack) == expected

    await eventually(stored, f"the shop to know of {expected} questions")


def records_on(stack, topic, conversations):
    """Return the records of a topic that belong to these conversations, duplicates included."""
    with closing(TopicReader(KafkaSettings(stack.settings["KAFKA_BROKERS"]), 60, 60)) as reader:
        places = [(topic, number) for number in range(reader.partitions(topic))]
        return [each for place in places for each in reader.records(*place) if each.key.decode() in conversations]


@pytest.mark.parametrize("text", ["我的订单20260001到哪了", "where is my order 20260001?"])
async def test_order_is_shown_to_its_owner_only(stack, client, text):
    """bob gets the answer that he gets for an order which does not exist."""
    stored = "SELECT tracking_number, carrier_zh, carrier_en FROM orders WHERE number = '20260001'"
    tracking, *carrier = shop_rows(stack, stored)[0]
    hers = await ask(client, stack.token("alice"), text)
    assert tracking in hers
    assert carrier[text.isascii()] in hers
    his = await ask(client, stack.token("bob"), text)
    assert tracking not in his
    nobodys = await ask(client, stack.token("bob"), text.replace("20260001", "20269999"))
    domain = yaml.safe_load((ROOT / "domain.yml").read_text(encoding="utf-8"))
    not_found = {each["text"].replace("{order_number}", "20260001") for each in domain["responses"][NOT_FOUND]}
    assert {his, nobodys.replace("20269999", "20260001")} <= not_found, "an order of another customer isn't told apart"


async def test_message_sent_three_times_is_answered_once(stack, client):
    """Three requests at once have the same message id. The shop stores one inquiry."""
    headers = {"Authorization": f"Bearer {stack.token('alice')}", "Prefer": "wait=20"}
    before = inquiries(stack)
    message = {"text": "where is my order 20260001?", "message_id": uuid.uuid4().hex}
    answers = await asyncio.gather(*(client.post("/v1/messages", json=message, headers=headers) for _ in range(3)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    await wait_for_inquiries(stack, before + 1)


async def test_200_conversations_survive_a_killed_worker(stack, client):
    """1,000 messages, kill -9 in the middle: 1,000 answers, and each side effect in the shop once."""
    customers = [*crowd(stack, client, 199), known_customer(client, "customer-003", stack.token_secret)]
    own = shop_rows(stack, "SELECT number FROM orders WHERE customer_id = 'customer-003'")[0][0]
    asks = tuple(text.replace("20260001", own) for text in TEXTS)
    before = inquiries(stack)
    heard = len(await customers[-1].replies())
    assert heard == 0

    async def kill():
        await eventually(lambda: sum(len(customer.accepted) for customer in customers) >= 300, "300 messages")
        stack.kill("worker")

    await asyncio.gather(kill(), *(talk(customer, asks) for customer in customers))
    await wait_until_answered(customers)
    await check_promises(customers)
    await wait_for_inquiries(stack, before + 2)
    keys = {f"demo:{customer.user}" for customer in customers}
    answers = [orjson.loads(record.value) for record in await asyncio.to_thread(records_on, stack, ANSWERS, keys)]
    assert {answer["message_id"] for answer in answers} == {id for customer in customers for id in customer.accepted}
    assert len({answer["id"] for answer in answers}) == 1000


async def test_redis_outage_of_five_seconds_loses_no_message(stack, client):
    customers = crowd(stack, client, 20)
    await asyncio.gather(*(talk(customer, TEXTS[:2]) for customer in customers))
    stack.kill("redis", restart_after_s=5)
    await asyncio.gather(*(talk(customer, TEXTS[2:]) for customer in customers))
    await wait_until_answered(customers)
    await check_promises(customers)


async def test_kafka_outage_of_five_seconds_loses_no_accepted_message(stack, client):
    """Customers send again what the gateway refuses meanwhile with 503."""
    customers = crowd(stack, client, 20)
    await asyncio.gather(*(talk(customer, TEXTS[:2]) for customer in customers))
    stack.kill("kafka", restart_after_s=5)
    await asyncio.gather(*(talk(customer, TEXTS[2:]) for customer in customers))
    await wait_until_answered(customers)
    await check_promises(customers)


async def test_action_server_outage_is_told_to_the_customer(stack, client):
    """The worker answers without the order. Once the action server is back, the order is looked up again."""
    token = stack.token("alice")
    stack.kill("actions", restart_after_s=600)  # longer than the worker repeats its call
    apology = await ask(client, token, "where is my order 20260001?")
    assert "20260001" not in apology
    stack.kill("actions")
    await asyncio.to_thread(stack.wait_ready, "actions", 60)
    answer = await ask(client, token, "where is my order 20260001?")
    assert "20260001" in answer


async def test_two_owners_of_a_partition_give_one_answer(stack, client):
    """A worker is frozen and loses its partitions to another; resumed, it still believes that it owns them."""
    second = stack.add_worker()
    await asyncio.to_thread(stack.wait_ready, second)
    customers = crowd(stack, client, 40)
    await asyncio.gather(*(talk(customer, TEXTS[:2]) for customer in customers))
    sending = asyncio.gather(*(talk(customer, TEXTS[2:]) for customer in customers))
    os.kill(stack.pid("worker"), signal.SIGSTOP)
    try:
        await sending
        await wait_until_answered(customers)
    finally:
        os.kill(stack.pid("worker"), signal.SIGCONT)
    await asyncio.gather(*(talk(customer, TEXTS[:2]) for customer in customers))
    await wait_until_answered(customers)
    await check_promises(customers)
    stack.remove(second)


async def test_conversation_of_300_turns_survives_a_killed_worker(stack, client):
    """Slots and a form of the first turns are there when another process takes over at turn 300."""
    customer = crowd(stack, client, 1)[0]
    await customer.send("我要查订单")
    for _ in range(299):
        await customer.send("谢谢")
    await wait_until_all_have_a_status([customer])
    stack.kill("worker")
    reply = await ask(client, customer.token, "20260001")
    assert reply.startswith("没能查到订单20260001"), "the form of turn 1 asks for a number, in its language"


async def letters_of(stack, conversation, count):
    """Return a conversation's dead letters once there are so many. A later message may be answered before that."""

    async def enough():
        letters = await asyncio.to_thread(records_on, stack, "user.query.dlq", {conversation})
        return letters if len(letters) >= count else None

    return await eventually(enough, f"{count} dead letters")


async def test_malformed_records_become_dead_letters_and_block_nothing(stack, client):
    """Three malformed records are on the inbox before alice's message, which is answered."""
    producer = Producer({"bootstrap.servers": stack.settings["KAFKA_BROKERS"], "partitioner": "murmur2_random"})
    marks = [uuid.uuid4().hex for _ in range(3)]
    values = [f"not json {marks[0]}", f'{{"type": "Newer", "v": 1, "id": "{marks[1]}"}}', f'["{marks[2]}"]']
    for value in values:
        producer.produce("user.query", value.encode(), b"demo:alice", headers=[("x", b"y")])
    assert producer.flush(20) == 0
    assert "20260001" in await ask(client, stack.token("alice"), "where is my order 20260001?")
    letters = await letters_of(stack, "demo:alice", len(values))
    assert [letter.value.decode() for letter in letters][-3:] == values
    headers = dict(letters[-1].headers)
    assert headers["kefu-origin-topic"] == b"user.query"
    assert headers["kefu-error-class"] == b"malformed"
    assert headers["x"] == b"y"
    assert int(headers["kefu-origin-offset"]) >= 0


async def test_model_swap_under_load_loses_no_message(stack, client, tmp_path):
    """PUT /model swaps the worker's model. A broken archive and a change of a tracker are refused."""
    customers = crowd(stack, client, 20)
    talking = asyncio.gather(*(talk(customer) for customer in customers))
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(b"not a model")
    async with httpx.AsyncClient(base_url=stack.url("worker"), timeout=60) as rasa:
        refused = await rasa.put("/model", json={"model_file": str(broken)})
        assert refused.status_code == 400 and "stays" in refused.json()["detail"]
        swapped = await rasa.put("/model", json={"model_file": stack.settings["KEFU_MODEL"]})
        assert swapped.status_code == 200, swapped.text
        changed = await rasa.post("/conversations/demo:alice/tracker/events", json={"event": "restart"})
        assert changed.status_code == 409
    await talking
    await wait_until_answered(customers)
    await check_promises(customers)
