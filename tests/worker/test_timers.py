"""What turns arm, and what becomes of a timer that is due: by its conversation's own events."""

import asyncio
import time
from datetime import datetime, timedelta, timezone

import orjson
import pytest
from rasa.shared.core.events import (
    ConversationPaused,
    ConversationResumed,
    ReminderCancelled,
    ReminderScheduled,
    Restarted,
    SlotSet,
    deserialise_events,
)

from kefu.events import ReminderDue, SessionIdled, now_ms
from kefu.settings import CONVERSATION_LIFETIME_S, WorkerSettings
from kefu.worker.conversations import Stored
from kefu.worker.live import TURNS_BEFORE_TRIM, LiveConversation, as_stored
from kefu.worker.timers import rules, turns
from kefu.worker.timers.index import member, read
from tests.worker.conftest import Chat

pytestmark = pytest.mark.asyncio
IDLE_S = 300
IDLE_MS = IDLE_S * 1000
SOON = datetime(2030, 1, 1, 12, 0, tzinfo=timezone.utc)


class TimedChat(Chat):
    """A conversation whose timers the test lets fall due."""

    def __init__(self, agent, idle_s=IDLE_S):
        super().__init__(agent)
        self.runner = agent.runner(10.0, idle_s)
        self.domain = agent.domain

    async def due(self, timer):
        outcome = self.take(await self.runner.run(self.live, timer, None, time.monotonic()))
        stored = orjson.loads(outcome.write.marker)
        assert (stored["message_id"], stored["cause"], stored["status"]) == (timer.id, timer.id, "answered")
        return outcome

    async def silent(self, after_ms=IDLE_MS, **fields):
        since = rules.silence(self.live.tracker.events).since
        return await self.due(SessionIdled("demo", "alice", since + after_ms, **fields))

    async def reminded(self, name="r", due=SOON):
        return await self.due(ReminderDue("demo", "alice", name, round(due.timestamp() * 1000)))

    def put(self, *events):
        """Put events on the tracker, as an action of the turn before would have."""
        for event in events:
            self.live.tracker.update(event, self.domain)


@pytest.fixture
def chat(agent):
    return TimedChat(agent)


def reminder(name="r", due=SOON, intent="goodbye", **fields):
    return ReminderScheduled(intent, due, name=name, **fields)


def said(outcome):
    return [event.metadata.get("utter_action") for event in outcome.events if event.type_name == "bot"]


def nothing(outcome):
    return outcome.events == [] and outcome.write.replies == [] and outcome.write.events == []


# The customer's silence


async def test_an_open_question_is_asked_about_once_after_the_silence(chat):
    await chat.say("track my order")
    outcome = await chat.silent()
    assert said(outcome) == ["utter_still_there"]
    assert "Are you still there" in outcome.write.replies[0]["text"]
    assert {reply["message_id"] for reply in outcome.write.replies} == {outcome.answer.message_id}
    assert outcome.write.arms == ()
    assert nothing(await chat.silent(after_ms=2 * IDLE_MS))


@pytest.mark.parametrize(("ask", "words"), [("查订单", "您还在吗"), ("track my order", "Are you still there")])
async def test_the_question_has_the_customers_language(chat, ask, words):
    await chat.say(ask)
    assert words in (await chat.silent()).write.replies[0]["text"]


async def test_the_form_goes_on_where_it_was(chat):
    await chat.say("track my order")
    await chat.silent()
    assert chat.live.tracker.get_slot("requested_slot") == "order_number"
    assert said(await chat.say("20260001")) == ["utter_order_shipped"]


async def test_after_the_silence_never_mind_still_leaves_the_form(chat):
    await chat.say("查订单")
    await chat.silent()
    assert said(await chat.say("不用了")) == ["utter_form_stopped"]
    assert chat.live.tracker.active_loop_name is None


async def test_a_new_silence_is_asked_about_again(chat):
    await chat.say("track my order")
    await chat.silent()
    await chat.say("track my order")
    assert said(await chat.silent()) == ["utter_still_there"]


async def test_silence_is_armed_while_a_form_waits_and_never_otherwise(chat):
    assert (await chat.say("hello")).write.arms == ()
    (arm,) = (await chat.say("track my order")).write.arms
    assert arm.member == "idle demo:alice"
    assert arm.due == rules.silence(chat.live.tracker.events).since + IDLE_MS
    assert (await chat.say("20260001")).write.arms == ()


async def test_all_that_stands_is_armed_anew_for_an_index_that_was_lost(chat):
    chat.live.partition = 3
    (silence,) = (await chat.say("track my order")).write.arms
    chat.put(reminder("one"), reminder("two"), ReminderCancelled("two"))
    one = (3, member("demo:alice", "one"), round(SOON.timestamp() * 1000))
    assert {tuple(arm) for arm in chat.runner.timers(chat.live)} == {one, tuple(silence)}


async def test_nothing_is_armed_when_switched_off_or_without_an_intent_for_it(agent, chat, monkeypatch):
    off = TimedChat(agent, idle_s=0)
    assert (await off.say("track my order")).write.arms == ()
    assert nothing(await off.silent())
    intents = {name: properties for name, properties in chat.domain.intent_properties.items() if name != "form_idled"}
    monkeypatch.setattr(chat.domain, "intent_properties", intents)
    assert (await chat.say("track my order")).write.arms == ()
    assert nothing(await chat.silent())


async def test_a_domain_with_the_other_intent_hears_of_every_silence(chat, monkeypatch):
    intents = {**chat.domain.intent_properties, "session_idled": chat.domain.intent_properties["form_idled"]}
    monkeypatch.setattr(chat.domain, "intent_properties", intents)
    assert [arm.member for arm in (await chat.say("hello")).write.arms] == ["idle demo:alice"]
    assert rules.idle_intent(chat.live.tracker, chat.domain) == "session_idled"
    await chat.say("track my order")
    assert rules.idle_intent(chat.live.tracker, chat.domain) == "form_idled"


async def test_a_message_since_is_no_silence_and_the_new_one_is_looked_for(chat):
    await chat.say("track my order")
    first = rules.silence(chat.live.tracker.events).since
    await asyncio.sleep(0.01)
    await chat.say("track my order")
    outcome = await chat.due(SessionIdled("demo", "alice", first + IDLE_MS))
    assert nothing(outcome)
    assert [arm.due for arm in outcome.write.arms] == [rules.silence(chat.live.tracker.events).since + IDLE_MS]


async def test_a_message_of_a_backlog_begins_the_silence_when_it_is_taken_up(chat):
    hour_ago = now_ms() - 3_600_000
    (arm,) = (await chat.say("track my order", ts=hour_ago)).write.arms
    assert arm.due >= hour_ago + 3_600_000 + IDLE_MS


async def test_a_silence_that_waited_in_kafka_is_looked_for_later(chat):
    await chat.say("track my order")
    outcome = await chat.silent(ts=now_ms() - turns.LATE_MS - 1000)
    assert nothing(outcome)
    assert outcome.write.arms[0].due >= now_ms() + IDLE_MS - 5000
    assert said(await chat.silent()) == ["utter_still_there"]


async def test_nobody_is_asked_whose_session_is_over(chat):
    await chat.say("track my order")
    outcome = await chat.silent(ts=now_ms() + 31 * 60_000)
    assert nothing(outcome) and outcome.write.arms == ()


async def test_the_question_does_not_keep_the_session_alive(chat):
    start = now_ms()
    await chat.say("track my order", ts=start)
    await chat.silent(after_ms=29 * 60_000, ts=start + 29 * 60_000)
    after = await chat.say("hello", ts=start + 31 * 60_000)
    assert "action_session_start" in after.answer.actions


async def test_nobody_is_asked_while_a_person_has_the_conversation(chat):
    await chat.say("track my order")
    chat.put(ConversationPaused())
    assert nothing(await chat.silent())
    assert (await chat.say("hello")).write.arms == ()
    chat.put(ConversationResumed())
    assert [arm.member for arm in (await chat.say("track my order")).write.arms] == ["idle demo:alice"]


async def test_nothing_is_said_of_a_silence_when_the_form_fails(chat, actions):
    await chat.say("track my order")
    actions.answer = actions.broken
    outcome = await chat.silent()
    assert said(outcome) == []
    assert chat.live.tracker.latest_action_name == "action_listen"
    actions.answer = actions.form_is_content
    assert said(await chat.say("20260001")) == ["utter_order_shipped"]


# Reminders


async def test_a_reminder_triggers_its_intent_with_its_entities_once(chat):
    await chat.say("hello")
    chat.put(reminder(intent="track_order", entities=[{"entity": "order_number", "value": "20260001"}]))
    outcome = await chat.reminded()
    assert said(outcome) == ["utter_order_shipped"]
    heard = next(event for event in outcome.events if event.type_name == "user")
    assert heard.text == "EXTERNAL: track_order" and heard.metadata["is_external"] is True
    assert outcome.answer.intent == "track_order"
    assert nothing(await chat.reminded())


async def test_entities_may_be_a_dict_as_in_rasa(chat):
    await chat.say("hello")
    chat.put(reminder(intent="track_order", entities={"order_number": "20260001"}))
    assert said(await chat.reminded()) == ["utter_order_shipped"]


async def test_actions_know_the_customer_of_the_last_message(chat, actions):
    await chat.say("hello")
    chat.put(reminder(intent="track_order", entities={"order_number": "20260001"}))
    seen = []
    content = actions.answer

    async def note(body):
        seen.append(body["tracker"]["latest_message"]["metadata"])
        return await content(body)

    actions.answer = note
    await chat.reminded()
    assert {(each["tenant"], each["user"], each["identified"]) for each in seen} == {("demo", "alice", True)}


@pytest.mark.parametrize(
    "ended",
    [
        [ReminderCancelled()],
        [ReminderCancelled(name="r")],
        [ReminderCancelled(intent="goodbye")],
        [Restarted()],
    ],
    ids=lambda ended: str(ended[0]),
)
async def test_a_reminder_that_was_taken_back_does_not_fire(chat, ended):
    await chat.say("hello")
    chat.put(reminder(), *ended)
    assert nothing(await chat.reminded())


@pytest.mark.parametrize(
    "other",
    [ReminderCancelled(name="other"), ReminderCancelled(intent="greet"), ReminderCancelled(entities=[{"a": 1}])],
)
async def test_what_takes_back_another_leaves_it_alone(chat, other):
    await chat.say("hello")
    chat.put(reminder(), other)
    assert said(await chat.reminded()) == ["utter_goodbye"]


@pytest.mark.parametrize("fields", [{"name": "r"}, {"intent": "goodbye"}, {"entities": [{"entity": "a"}]}, {}], ids=str)
async def test_what_is_taken_back_is_the_same_when_it_is_read_again(fields):
    (again,) = deserialise_events(as_stored([ReminderCancelled(**fields)]))
    assert (again.name, again.intent, again.entities) == tuple(
        fields.get(name) for name in ("name", "intent", "entities")
    )


@pytest.mark.parametrize(("killed", "expected"), [(True, []), (False, ["utter_goodbye"])])
async def test_a_message_since_ends_those_reminders_that_it_is_meant_to(chat, killed, expected):
    await chat.say("hello")
    chat.put(reminder(kill_on_user_message=killed))
    await chat.say("hello")
    assert said(await chat.reminded()) == expected


async def test_another_timer_is_no_message_of_the_customer(chat):
    await chat.say("track my order")
    chat.put(reminder(), reminder("other", intent="thank"))
    await chat.silent()
    await chat.reminded("other")
    assert "utter_goodbye" in said(await chat.reminded())


async def test_a_reminder_moved_to_later_fires_then(chat):
    await chat.say("hello")
    later = SOON + timedelta(hours=1)
    chat.put(reminder(), reminder(due=later))
    outcome = await chat.reminded()
    assert nothing(outcome)
    assert [arm.due for arm in outcome.write.arms] == [round(later.timestamp() * 1000)]
    assert said(await chat.reminded(due=later)) == ["utter_goodbye"]


async def test_a_reminder_of_tomorrow_outlives_the_session(chat):
    start = now_ms()
    await chat.say("hello", ts=start)
    chat.put(reminder(kill_on_user_message=False))
    await chat.say("hello", ts=start + 3 * 3_600_000)
    assert said(await chat.reminded()) == ["utter_goodbye"]


async def test_a_reminder_for_what_the_model_does_not_know_is_dropped(chat):
    await chat.say("hello")
    chat.put(reminder(intent="no_such_intent"))
    assert nothing(await chat.reminded())
    assert nothing(await chat.reminded("never scheduled"))


async def test_a_reminder_says_nothing_while_a_person_has_the_conversation_and_is_done_with(chat):
    await chat.say("hello")
    chat.put(reminder(), ConversationPaused())
    assert (await chat.reminded()).write.replies == []
    chat.put(ConversationResumed())
    assert nothing(await chat.reminded())


async def test_a_reminder_whose_action_fails_says_so(chat, actions):
    await chat.say("hello")
    chat.put(reminder(intent="track_order", entities={"order_number": "20260001"}))
    actions.answer = actions.broken
    assert said(await chat.reminded()) == ["utter_action_failed"]


async def test_the_words_of_a_timer_fill_no_slot(chat):
    slot = next(slot for slot in chat.domain.slots if slot.name == "last_order_number")
    mappings, slot.mappings = slot.mappings, [{"type": "from_text"}]
    try:
        await chat.say("hello")
        chat.put(SlotSet("last_order_number", None), reminder())
        await chat.reminded()
        assert chat.live.tracker.get_slot("last_order_number") is None
        await chat.say("my own words")
        assert chat.live.tracker.get_slot("last_order_number") == "my own words"
    finally:
        slot.mappings = mappings


async def test_reminders_outlive_trimming_and_a_restart(agent, chat):
    stored, snapshot = [], []
    chat.put(
        reminder(kill_on_user_message=False), reminder("killed"), reminder("cancelled", kill_on_user_message=False)
    )
    chat.live.turn_sizes.append(3)
    stored.append([event.as_dict() for event in chat.live.tracker.events])
    chat.put(ReminderCancelled("cancelled"))
    for _ in range(TURNS_BEFORE_TRIM + 5):
        outcome = await chat.say("谢谢")
        if outcome.snapshot is not None:
            stored, snapshot = stored[-outcome.write.keep :], outcome.write.snapshot
        stored.append(outcome.write.events)
    assert snapshot, "trimmed"
    again = LiveConversation.restore(
        "demo:alice", agent.processor.view, Stored(chat.live.version, chat.live.seq, snapshot, stored)
    )
    for live in (chat.live, again):
        assert set(rules.reminders(live.tracker.events).standing) == {"r"}
    chat.live = again
    assert said(await chat.reminded()) == ["utter_goodbye"]


async def test_a_turn_arms_what_its_action_schedules_up_to_a_limit(chat, actions):
    many = [f"r{n}" for n in range(turns.MAX_REMINDERS + 5)] + ["x" * 300]

    async def schedule(body):
        if body["next_action"].startswith("validate_"):
            return await actions.form_is_content(body)
        events = [{**reminder(name).as_dict(), "event": "reminder"} for name in many]
        return {"events": events, "responses": [{"text": "done"}]}

    actions.answer = schedule
    outcome = await chat.say("where is my order 20260001?")
    assert [arm.member for arm in outcome.write.arms] == [
        f"reminder demo:alice r{n}" for n in range(turns.MAX_REMINDERS)
    ]
    assert {arm.due for arm in outcome.write.arms} == {round(SOON.timestamp() * 1000)}


# Entries of the index


@pytest.mark.parametrize("name", [None, "r", "two words", "电话 回访", "a:b"])
async def test_an_entry_is_read_as_it_was_written(name):
    found = read(3, member("demo:alice", name).encode(), b"1700000000000")
    assert (found.event.conversation, found.event.due, found.partition) == ("demo:alice", 1700000000000, 3)
    assert getattr(found.event, "name", None) == name


@pytest.mark.parametrize(
    "entry", [b"", b"idle", b"idle alice", b"reminder demo:alice", b"other demo:alice", b"idle a:b:c"]
)
async def test_what_is_no_entry_stands_for_no_event(entry):
    assert read(3, entry, b"1").event is None


async def test_the_time_of_silence_is_within_a_session_and_can_be_switched_off():
    needed = {"ACTION_ENDPOINT_URL": "http://127.0.0.1:1/"}
    assert 0 < WorkerSettings.from_env(needed).idle_s < 30 * 60
    assert WorkerSettings.from_env({**needed, "KEFU_IDLE_S": "0"}).idle_s == 0
    assert CONVERSATION_LIFETIME_S > 30 * 60
