"""A turn ends with a true reply, whatever fails, and leaves a tracker that the next turn can use."""

import asyncio
import time

import pytest
from rasa.shared.core.events import BotUttered, SlotSet, UserUttered

from kefu.errors import ActionFailed
from kefu.events import UserSaid
from kefu.worker.conversation.stored import Stored
from kefu.worker.turns.live import LiveConversation
from kefu.worker.turns.offered import neutral
from tests.worker.conftest import Chat

pytestmark = pytest.mark.asyncio


def texts(outcome):
    return [reply.get("text", "") for reply in outcome.write.replies]


def said_by(chat, outcome):
    return [event.metadata.get("utter_action") for event in outcome.events if event.type_name == "bot"]


async def test_order_is_looked_up_and_the_reply_numbered(chat, actions):
    outcome = await chat.say("where is my order 20260001?")
    assert said_by(chat, outcome) == ["utter_order_shipped"]
    assert [reply["seq"] for reply in outcome.write.replies] == [1]
    assert outcome.answer.intent == "track_order"
    assert "action_track_order" in actions.calls


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("track my order", "where is my order"),
        ("查订单", "我的订单到哪了"),
    ],
)
async def test_repeated_request_within_a_form_repeats_its_question(chat, first, again):
    """`rasa test` runs no forms, so only this test sees the turns after a refusal."""
    await chat.say(first)
    for _ in range(2):
        assert said_by(chat, await chat.say(again)) == ["utter_form_continue", "utter_ask_for_order_number"]
    assert said_by(chat, await chat.say("20260001")) == ["utter_order_shipped"]


@pytest.mark.parametrize(
    ("first", "other", "answer"),
    [
        ("track my order", "ok", "utter_acknowledge"),
        ("查订单", "好的", "utter_acknowledge"),
        ("track my order", "hello", "utter_greet"),
        ("查订单", "谢谢", "utter_thank"),
    ],
)
async def test_other_topic_within_a_form_is_answered_first(chat, first, other, answer):
    """The form's question follows the answer."""
    await chat.say(first)
    for _ in range(2):
        assert said_by(chat, await chat.say(other)) == [answer, "utter_ask_for_order_number"]
    assert said_by(chat, await chat.say("20260001")) == ["utter_order_shipped"]


@pytest.mark.parametrize("greeting", ["hello", "你好"])
async def test_repeated_button_within_a_form_repeats_its_question(chat, greeting):
    await chat.say(greeting)
    assert said_by(chat, await chat.say(payload="/track_order")) == ["utter_ask_for_order_number"]
    again = await chat.say(payload="/track_order")
    assert said_by(chat, again) == ["utter_form_continue", "utter_ask_for_order_number"]
    assert said_by(chat, await chat.say("20260001")) == ["utter_order_shipped"]


async def test_answer_has_the_language_of_the_question(chat):
    for asked, unit in (("我的订单20260001到哪了", "运单号"), ("where is my order 20260001", "tracking number")):
        wordings = {texts(await chat.say(asked))[0] for _ in range(3)}
        assert len(wordings) == 2 and all("20260001" in said and unit in said for said in wordings), wordings


async def test_sequence_numbers_continue_from_turn_to_turn(chat):
    seqs = [reply["seq"] for _ in range(4) for reply in (await chat.say("hello")).write.replies]
    assert seqs == list(range(1, len(seqs) + 1))


async def test_failed_action_gets_its_own_reply_and_is_undone(chat, actions):
    actions.answer = actions.broken
    outcome = await chat.say("where is my order 20260001?")
    assert said_by(chat, outcome) == ["utter_action_failed"]
    assert "action_track_order" not in outcome.answer.actions
    actions.answer = actions.form_is_content
    assert said_by(chat, await chat.say("where is my order 20260001?")) == ["utter_order_shipped"]


async def test_slow_action_gets_the_holding_reply_in_time(agent, actions):
    actions.answer = actions.slow
    chat = Chat(agent, deadline_s=1.0)
    outcome = await asyncio.wait_for(chat.say("where is my order 20260001?"), 20)
    assert said_by(chat, outcome) == ["utter_holding"]
    actions.answer = actions.form_is_content
    chat.runner = agent.runner(10)
    assert said_by(chat, await chat.say("where is my order 20260001?")) == ["utter_order_shipped"]


async def test_message_past_its_deadline_is_answered_at_once(chat):
    parsed = asyncio.get_running_loop().create_future()
    said = UserSaid("demo", "alice", "m1", text="hello")
    outcome = await asyncio.wait_for(chat.runner.run(chat.live, said, parsed, time.monotonic() - 60), 60)
    assert said_by(chat, outcome) == ["utter_holding"]
    assert any(event.type_name == "user" for event in outcome.events)


async def test_assistant_is_silent_during_a_hand_over(chat, actions):
    await chat.say("转人工")
    assert (await chat.say("where is my order 20260001?")).write.replies == []
    broken = asyncio.get_running_loop().create_future()
    broken.set_exception(ValueError("a component broke"))
    said = UserSaid("demo", "alice", "m9", text="hello")
    outcome = await chat.runner.run(chat.live, said, broken, time.monotonic())
    assert (outcome.answer.status, outcome.write.replies) == ("answered", [])


async def test_nlu_failure_gets_the_holding_reply(chat):
    broken = asyncio.get_running_loop().create_future()
    broken.set_exception(ValueError("a component broke"))
    said = UserSaid("demo", "alice", "m1", text="hello")
    outcome = await chat.runner.run(chat.live, said, broken, time.monotonic())
    assert said_by(chat, outcome) == ["utter_holding"]


async def test_slash_typed_by_a_customer_is_text(chat):
    outcome = await chat.say("/track_order")
    assert outcome.answer.confidence != 1.0
    assert outcome.write.events[-1] is not None
    user = next(event for event in outcome.events if event.type_name == "user")
    assert user.text == "/track_order"


async def test_payload_is_accepted_only_if_a_button_offered_it(chat):
    refused = await chat.say(payload="/track_order")
    assert (refused.answer.status, refused.answer.reason) == ("failed", "payload_not_offered")
    assert refused.write.events == [] and refused.write.replies == []
    greeting = await chat.say("hello")
    offered = greeting.write.replies[0]["buttons"][0]["payload"]
    accepted = await chat.say(payload=offered)
    assert accepted.answer.status == "answered"
    assert (await chat.say(payload='/track_order{"order_number": "20260002"}')).answer.status == "failed"


async def test_yes_button_answers_only_its_own_question(chat):
    yes = {"buttons": [{"title": "Yes", "payload": "/affirm"}]}
    chat.live.tracker.update(UserUttered("cancel my order"))
    chat.live.tracker.update(BotUttered("Shall I cancel it?", yes))
    chat.live.tracker.update(UserUttered("hm"))
    assert (await chat.say(payload="/affirm")).answer.status == "answered"
    again = await chat.say(payload="/affirm")
    assert (again.answer.status, again.answer.reason) == ("failed", "payload_not_offered")


async def test_actions_see_only_the_users_data_of_the_token(chat):
    outcome = await chat.say("hello", metadata={"user": "mallory", "identified": False})
    user = next(event for event in outcome.events if event.type_name == "user")
    assert (user.metadata["user"], user.metadata["identified"]) == ("alice", True)
    assert user.metadata["client"] == {"user": "mallory", "identified": False}


async def test_session_expires_by_the_time_of_the_messages(chat):
    start = 1_000_000_000_000
    await chat.say("hello", ts=start)
    within = await chat.say("hello", ts=start + 29 * 60_000)
    after = await chat.say("hello", ts=start + 60 * 60_000)
    assert "action_session_start" not in within.answer.actions
    assert "action_session_start" in after.answer.actions


async def test_early_slots_and_form_survive_trimming_and_a_restart(agent):
    """Slots and form are there after 300 turns, in memory and read from the store."""
    chat = Chat(agent)
    await chat.say("track my order")  # opens the form, which asks for the number
    assert chat.live.tracker.active_loop_name == "track_order_form"
    stored = Stored()
    turns, snapshot = [], []
    for _ in range(300):
        outcome = await chat.say("谢谢")
        if outcome.snapshot is not None:
            turns, snapshot = turns[-outcome.write.keep :], outcome.write.snapshot
        turns.append(outcome.write.events)
    stored = Stored(chat.live.version, chat.live.seq, snapshot, turns)
    again = LiveConversation.restore("demo:alice", agent.processor.view, stored)
    assert len(turns) <= 150
    for tracker in (chat.live.tracker, again.tracker):
        assert tracker.active_loop_name == "track_order_form"
        assert tracker.get_slot("requested_slot") == "order_number"
        assert tracker.get_slot("language") == "zh"
    chat.live = again
    assert said_by(chat, await chat.say("20260001")) == ["utter_order_shipped"]


@pytest.mark.parametrize(
    ("text", "expected"), [("/x", "／x"), ("  /x", "  ／x"), ("a/b", "a/b"), ("", ""), ("//", "／/"), (" ", " ")]
)
async def test_neutral_text_keeps_its_length(text, expected):
    assert neutral(text) == expected
    assert len(neutral(text)) == len(text)


@pytest.mark.parametrize("trouble", [ActionFailed("action_session_start", "ValueError"), asyncio.TimeoutError()])
async def test_failed_session_start_keeps_the_message(chat, monkeypatch, trouble):
    async def broken(tracker, channel):
        tracker.update(SlotSet("about", "half done"))
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(chat.runner.processor, "start_session", broken)
        outcome = await chat.say("hello")
    holding = isinstance(trouble, asyncio.TimeoutError)
    assert said_by(chat, outcome) == ["utter_holding" if holding else "utter_action_failed"]
    assert [event.text for event in outcome.events if event.type_name == "user"] == ["hello"]
    assert not any(event.type_name == "slot" and event.value == "half done" for event in outcome.events)
