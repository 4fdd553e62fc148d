"""Every test story as a real conversation through the gateway; afterwards the shop's database is compared."""

import random
import uuid

import httpx
import orjson
import pytest
from kafka import TopicPartition

from kefu.events import ANSWERS
from kefu.settings import KafkaSettings
from kefu.tools.clients import consumer
from ops.local.servers import ROOT
from ops.local.shop.demo_policies import POLICIES
from ops.local.stack import PATIENCE, Stack, free_ports
from tests.dialogue.phrases import phrases
from tests.e2e.conversations import BEGINNINGS, ShopDatabase, changes, effects, stories
from tests.e2e.customers import known_customer
from tests.waiting import until

STORIES = {story.title: story for story in stories()}
EFFECTS = effects()
# Actions of the platform and a form's own questions. Stories don't name them.
UNNAMED = ("action_listen", "action_extract_slots", "action_session_start", "utter_handoff_", "utter_ask_",
           "action_ask_", "validate_")  # fmt: skip
# These actions decide by themselves whether to hand over. No rule, and so no story, says what follows them.
MAY_CALL_A_PERSON, HAND_OVER = {"action_clarify", "action_answer_offer"}, "action_hand_over"
PLATFORM = {"action_listen", "action_extract_slots", "action_session_start"}
GIVEN_UP = {"action_default_fallback", "utter_action_failed"}
CONVERSATIONS, TURNS = 60, 8

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    settings = {"KEFU_USER_RATE": "0", "KEFU_SESSION_RATE": "0", "KEFU_IDLE_S": "0", **PATIENCE}
    system = Stack(tmp_path_factory.mktemp("conversations"), free_ports(), overrides=settings)
    try:
        system.start()
        yield system
    finally:
        system.stop()


@pytest.fixture(scope="module")
def shop(stack):
    return ShopDatabase(stack.shop_database)


@pytest.fixture(scope="module")
def client(stack):
    with httpx.Client(base_url=stack.url("gateway"), timeout=60) as client:
        yield client


class Answers:
    """The answers that the worker published, read from Kafka as they come."""

    def __init__(self, brokers):
        self._consumer = consumer(KafkaSettings(brokers), 60)
        self._found = {}
        numbers = self._consumer.partitions_for_topic(ANSWERS)
        self._consumer.assign([TopicPartition(ANSWERS, number) for number in numbers])
        self._consumer.seek_to_beginning()

    def of(self, message_id):
        return until(lambda: self._found.get(message_id) or self._read(), "the turn to be published")

    def _read(self):
        for records in self._consumer.poll(20).values():
            answers = [orjson.loads(record.value) for record in records]
            self._found.update({answer["message_id"]: answer for answer in answers})

    def close(self):
        self._consumer.close()


@pytest.fixture(scope="module")
def answers(stack):
    reader = Answers(stack.settings["KAFKA_BROKERS"])
    yield reader
    reader.close()


def say(client, token, **content):
    """Send a text or payload, repeatedly under one id until it is answered; return the message's id and replies."""
    message = {"message_id": uuid.uuid4().hex, **content}
    headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=60"}

    def post():
        answer = client.post("/v1/messages", json=message, headers=headers)
        return None if answer.status_code in (202, 503) else answer

    answer = until(post, "an answer", not_yet=(httpx.TransportError,))
    assert (answer.status_code, answer.json()["status"]) == (200, "answered"), answer.text
    return message["message_id"], answer.json()["replies"]


def talk(client, story, token):
    """Send the customer's messages of a story; return each message's id and replies."""
    answers, offered = [], []
    for turn in story.turns:
        if turn.is_payload:
            (payload,) = [payload for payload in offered if payload.split("{")[0] == turn.said]
            answers.append(say(client, token, payload=payload))
        else:
            answers.append(say(client, token, text=turn.said))
        offered = [button["payload"] for reply in answers[-1][1] for button in reply.get("buttons", [])]
    return answers


def test_listed_effects_belong_to_existing_test_stories():
    """An entry of conversation_effects.yml or BEGINNINGS for a renamed story would never be compared."""
    assert set(EFFECTS) | set(BEGINNINGS) <= set(STORIES)


@pytest.mark.parametrize("title", STORIES)
def test_conversation_follows_its_story_and_has_its_effects(stack, client, shop, answers, title):
    """Each test story, spoken through the gateway: its actions run, and the shop's data change as listed."""
    story, user = STORIES[title], shop.begin_again(title)
    before = shop.rows()
    token = stack.token() if story.is_guests else known_customer(client, user, stack.token_secret).token
    called = []
    for turn, (message_id, replies) in zip(story.turns, talk(client, story, token), strict=True):
        actions = [name for name in answers.of(message_id)["actions"] if not name.startswith(UNNAMED)]
        if len(actions) > 1 and actions[-2] in MAY_CALL_A_PERSON and actions[-1] == HAND_OVER:
            called.append(actions.pop())
        assert actions == [name for name in turn.actions if not name.startswith(UNNAMED)], (turn.said, replies)
        assert replies, turn.said
    assert bool(called) == story.gets_a_person
    assert changes(before, shop.rows()) == EFFECTS.get(title, [])


def test_cancellation_fee_changed_before_the_yes_is_asked_again(stack, client, shop):
    """The customer's first yes was to a fee of 0: the new fee is named, and only a second yes cancels the order."""
    token = known_customer(client, shop.begin_again(), stack.token_secret).token
    placed = "UPDATE orders SET placed_at = datetime('now', '{}') WHERE number = '20260007'"
    shop.change(placed.format("-1 hours"))
    _, (question,) = say(client, token, text="cancel order 20260007")
    assert "0.00" in question["text"]
    shop.change(placed.format("-3 hours"))
    before = shop.rows()
    _, (changed, again) = say(client, token, payload="/affirm")
    assert "20260007" in changed["text"]
    assert "25.90" in again["text"]
    assert changes(before, shop.rows()) == []
    _, (done,) = say(client, token, payload="/affirm")
    assert "25.90" in done["text"]
    assert "orders 20260007 status: processing -> cancelled" in changes(before, shop.rows())


def test_yes_to_a_failed_task_does_not_confirm_the_next(stack, client, shop, answers):
    """The shop is down at the yes to a cancellation. The deletion of the account then asks for a yes of its own."""
    user = shop.begin_again()
    before, token = shop.rows(), known_customer(client, user, stack.token_secret).token
    say(client, token, text="please cancel my order 20260007")
    stack.kill("shop", restart_after_s=600)
    message_id, _ = say(client, token, text="yes")
    assert answers.of(message_id)["actions"][-2:] == ["utter_action_failed", "action_listen"]
    stack.kill("shop")
    stack.wait_ready("shop")
    message_id, replies = say(client, token, text="please delete my account")
    assert "action_delete_account" not in answers.of(message_id)["actions"]
    assert [button["payload"] for button in replies[-1]["buttons"]] == ["/affirm", "/deny"]
    assert changes(before, shop.rows()) == []


def test_every_turn_of_a_random_conversation_has_a_next_action(stack, client, answers):
    """Phrases of random intents follow each other, as in no story: a rule answers each of them."""
    choose = random.Random(7)
    heldout = list(phrases(ROOT / "tests" / "dialogue" / "nlu_heldout.yml"))
    turns = []
    for number in range(CONVERSATIONS):
        token = known_customer(client, f"wanders-{number}", stack.token_secret).token if number % 2 else stack.token()
        for intent, text in choose.sample(heldout, TURNS):
            message_id, replies = say(client, token, text=text)
            actions = answers.of(message_id)["actions"]
            turns.append((text, actions))
            if "action_hand_over" in actions:
                break  # from here on a person answers
            assert replies, (intent, text, actions)
    uncovered = [turn for turn in turns if GIVEN_UP & set(turn[1]) or set(turn[1]) <= PLATFORM]
    assert len(turns) > CONVERSATIONS * 2
    assert not uncovered


@pytest.mark.parametrize("text", ["怎么联系你们客服", "how can I contact your customer service?"])
def test_shops_email_address_is_not_masked(stack, client, text):
    """Masking hides customers' personal data, and must leave the shop's own address and phone number."""
    _, (reply, *_) = say(client, stack.token(), text=text)
    assert POLICIES["service"]["email"] in reply["text"]
    assert POLICIES["service"]["phone"] in reply["text"]
