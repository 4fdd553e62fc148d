"""Silence: its timer, its question, and the entries of the timers' index."""

import asyncio

import pytest
from rasa.shared.core.events import (
    ConversationPaused,
    ConversationResumed,
    ReminderCancelled,
)

from kefu.events import SessionIdled, now_ms
from kefu.keys import due_entry
from kefu.settings import CONVERSATION_LIFETIME_S, WorkerSettings
from kefu.worker.conversation import reminders
from kefu.worker.storage.due_index import read
from kefu.worker.turns import timers
from tests.worker.timed import IDLE_MS, SOON, TimedChat, nothing, reminder, said

pytestmark = pytest.mark.asyncio


@pytest.fixture
def chat(agent):
    return TimedChat(agent)


async def test_open_question_is_repeated_once_after_a_silence(chat):
    await chat.say("track my order")
    outcome = await chat.silent()
    assert said(outcome) == ["utter_still_there", "utter_ask_for_order_number"]
    assert "Are you still there" in outcome.write.replies[0]["text"]
    assert {reply["message_id"] for reply in outcome.write.replies} == {outcome.answer.message_id}
    assert outcome.write.arms == ()
    assert nothing(await chat.silent(after_ms=2 * IDLE_MS))


@pytest.mark.parametrize(("ask", "words"), [("查订单", "您还在吗"), ("track my order", "Are you still there")])
async def test_silence_question_has_the_customers_language(chat, ask, words):
    await chat.say(ask)
    assert words in (await chat.silent()).write.replies[0]["text"]


async def test_form_continues_after_a_silence(chat):
    await chat.say("track my order")
    await chat.silent()
    assert chat.live.tracker.get_slot("requested_slot") == "order_number"
    assert said(await chat.say("20260001")) == ["utter_order_shipped"]


async def test_never_mind_after_a_silence_leaves_the_form(chat):
    await chat.say("查订单")
    await chat.silent()
    assert said(await chat.say("不用了")) == ["utter_form_stopped"]
    assert chat.live.tracker.active_loop_name is None


async def test_new_silence_is_asked_about_again(chat):
    await chat.say("track my order")
    await chat.silent()
    await chat.say("track my order")
    assert said(await chat.silent()) == ["utter_still_there", "utter_ask_for_order_number"]


async def test_silence_is_armed_only_while_a_form_waits(chat):
    assert (await chat.say("hello")).write.arms == ()
    (arm,) = (await chat.say("track my order")).write.arms
    assert arm.member == "idle demo:alice"
    assert arm.due == reminders.silence(chat.live.tracker.events).since + IDLE_MS
    assert (await chat.say("20260001")).write.arms == ()


async def test_all_standing_timers_are_armed_for_a_lost_index(chat):
    chat.live.partition = 3
    (silence,) = (await chat.say("track my order")).write.arms
    chat.put(reminder("one"), reminder("two"), ReminderCancelled("two"))
    one = (3, due_entry("demo:alice", "one"), round(SOON.timestamp() * 1000))
    assert {tuple(arm) for arm in chat.runner.timers(chat.live)} == {one, tuple(silence)}


async def test_silence_is_not_armed_when_switched_off(agent, chat, monkeypatch):
    """A domain without an intent for it switches it off too."""
    off = TimedChat(agent, idle_s=0)
    assert (await off.say("track my order")).write.arms == ()
    assert nothing(await off.silent())
    intents = {name: properties for name, properties in chat.domain.intent_properties.items() if name != "form_idled"}
    monkeypatch.setattr(chat.domain, "intent_properties", intents)
    assert (await chat.say("track my order")).write.arms == ()
    assert nothing(await chat.silent())


async def test_intent_session_idled_arms_every_silence(chat, monkeypatch):
    intents = {**chat.domain.intent_properties, "session_idled": chat.domain.intent_properties["form_idled"]}
    monkeypatch.setattr(chat.domain, "intent_properties", intents)
    assert [arm.member for arm in (await chat.say("hello")).write.arms] == ["idle demo:alice"]
    assert reminders.idle_intent(chat.live.tracker, chat.domain) == "session_idled"
    await chat.say("track my order")
    assert reminders.idle_intent(chat.live.tracker, chat.domain) == "form_idled"


async def test_message_begins_a_new_silence(chat):
    """The old silence's timer does nothing but arm the new one."""
    await chat.say("track my order")
    first = reminders.silence(chat.live.tracker.events).since
    await asyncio.sleep(0.01)
    await chat.say("track my order")
    outcome = await chat.due(SessionIdled("demo", "alice", first + IDLE_MS))
    assert nothing(outcome)
    assert [arm.due for arm in outcome.write.arms] == [reminders.silence(chat.live.tracker.events).since + IDLE_MS]


async def test_delayed_message_begins_its_silence_when_processed(chat):
    """A message waited an hour in Kafka: the idle timer is set from now on, not from when the message was written."""
    hour_ago = now_ms() - 3_600_000
    (arm,) = (await chat.say("track my order", ts=hour_ago)).write.arms
    assert arm.due >= hour_ago + 3_600_000 + IDLE_MS


async def test_silence_that_waited_in_kafka_is_armed_again(chat):
    await chat.say("track my order")
    outcome = await chat.silent(ts=now_ms() - timers.LATE_MS - 1000)
    assert nothing(outcome)
    assert outcome.write.arms[0].due >= now_ms() + IDLE_MS - 5000
    assert said(await chat.silent()) == ["utter_still_there", "utter_ask_for_order_number"]


async def test_silence_after_the_session_is_not_asked_about(chat):
    await chat.say("track my order")
    outcome = await chat.silent(ts=now_ms() + 31 * 60_000)
    assert nothing(outcome) and outcome.write.arms == ()


async def test_silence_question_does_not_extend_the_session(chat):
    start = now_ms()
    await chat.say("track my order", ts=start)
    await chat.silent(after_ms=29 * 60_000, ts=start + 29 * 60_000)
    after = await chat.say("hello", ts=start + 31 * 60_000)
    assert "action_session_start" in after.answer.actions


async def test_paused_conversation_is_not_asked_about_a_silence(chat):
    await chat.say("track my order")
    chat.put(ConversationPaused())
    assert nothing(await chat.silent())
    assert not any(arm.member.startswith("idle") for arm in (await chat.say("hello")).write.arms)
    chat.put(ConversationResumed())
    assert [arm.member for arm in (await chat.say("track my order")).write.arms] == ["idle demo:alice"]


async def test_failing_form_says_nothing_after_a_silence(chat, actions):
    """The idle timer fires within a form whose action fails: the customer, who wrote nothing, gets no error."""
    await chat.say("track my order")
    actions.answer = actions.broken
    outcome = await chat.silent()
    assert said(outcome) == []
    assert chat.live.tracker.latest_action_name == "action_listen"
    actions.answer = actions.form_is_content
    assert said(await chat.say("20260001")) == ["utter_order_shipped"]


@pytest.mark.parametrize("name", [None, "r", "two words", "电话 回访", "a:b"])
async def test_entry_of_the_timers_index_is_read_as_it_was_written(name):
    entry = read(3, due_entry("demo:alice", name).encode(), b"1700000000000")
    assert (entry.event.conversation, entry.event.due, entry.partition) == ("demo:alice", 1700000000000, 3)
    assert getattr(entry.event, "name", None) == name


@pytest.mark.parametrize(
    "entry", [b"", b"idle", b"idle alice", b"reminder demo:alice", b"other demo:alice", b"idle a:b:c"]
)
async def test_malformed_entry_of_the_timers_index_gives_no_event(entry):
    assert read(3, entry, b"1").event is None


async def test_default_silence_is_shorter_than_a_session():
    """KEFU_IDLE_S=0 switches it off."""
    needed = {"ACTION_ENDPOINT_URL": "http://127.0.0.1:1/"}
    assert 0 < WorkerSettings.from_env(needed).idle_s < 30 * 60
    assert WorkerSettings.from_env({**needed, "KEFU_IDLE_S": "0"}).idle_s == 0
    assert CONVERSATION_LIFETIME_S > 30 * 60
