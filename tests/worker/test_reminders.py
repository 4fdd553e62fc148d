"""Reminders that actions schedule: armed by turns, fired once, cancelled by events of their conversation."""

from datetime import timedelta

import pytest
from rasa.shared.core.events import (
    ConversationPaused,
    ConversationResumed,
    ReminderCancelled,
    Restarted,
    SlotSet,
    deserialise_events,
)

from kefu.events import now_ms
from kefu.worker.conversation import reminders
from kefu.worker.conversation.events import as_stored
from kefu.worker.conversation.stored import Stored
from kefu.worker.turns import timers
from kefu.worker.turns.live import TURNS_BEFORE_TRIM, LiveConversation
from tests.worker.timed import SOON, TimedChat, nothing, reminder, said

pytestmark = pytest.mark.asyncio


@pytest.fixture
def chat(agent):
    return TimedChat(agent)


async def test_reminder_triggers_its_intent_with_its_entities_once(chat):
    await chat.say("hello")
    chat.put(reminder(intent="track_order", entities=[{"entity": "order_number", "value": "20260001"}]))
    outcome = await chat.reminded()
    assert said(outcome) == ["utter_order_shipped"]
    heard = next(event for event in outcome.events if event.type_name == "user")
    assert heard.text == "EXTERNAL: track_order" and heard.metadata["is_external"] is True
    assert outcome.answer.intent == "track_order"
    assert nothing(await chat.reminded())


async def test_entities_of_a_reminder_may_be_a_dict_as_in_rasa(chat):
    await chat.say("hello")
    chat.put(reminder(intent="track_order", entities={"order_number": "20260001"}))
    assert said(await chat.reminded()) == ["utter_order_shipped"]


async def test_actions_of_a_reminder_know_the_customer(chat, actions):
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
async def test_cancelled_reminder_does_not_fire(chat, ended):
    await chat.say("hello")
    chat.put(reminder(), *ended)
    assert nothing(await chat.reminded())


@pytest.mark.parametrize(
    "other",
    [ReminderCancelled(name="other"), ReminderCancelled(intent="greet"), ReminderCancelled(entities=[{"a": 1}])],
)
async def test_cancelling_another_reminder_leaves_it_alone(chat, other):
    await chat.say("hello")
    chat.put(reminder(), other)
    assert said(await chat.reminded()) == ["utter_goodbye"]


@pytest.mark.parametrize("fields", [{"name": "r"}, {"intent": "goodbye"}, {"entities": [{"entity": "a"}]}, {}], ids=str)
async def test_cancellation_is_the_same_after_storing(fields):
    (again,) = deserialise_events(as_stored([ReminderCancelled(**fields)]))
    assert (again.name, again.intent, again.entities) == tuple(
        fields.get(name) for name in ("name", "intent", "entities")
    )


@pytest.mark.parametrize(("killed", "expected"), [(True, []), (False, ["utter_goodbye"])])
async def test_message_ends_reminders_with_kill_on_user_message(chat, killed, expected):
    await chat.say("hello")
    chat.put(reminder(kill_on_user_message=killed))
    await chat.say("hello")
    assert said(await chat.reminded()) == expected


async def test_timer_does_not_count_as_a_message(chat):
    """A silence and another reminder do not end a reminder with kill_on_user_message."""
    await chat.say("track my order")
    chat.put(reminder(), reminder("other", intent="thank"))
    await chat.silent()
    await chat.reminded("other")
    assert "utter_goodbye" in said(await chat.reminded())


async def test_postponed_reminder_fires_at_its_new_time(chat):
    await chat.say("hello")
    later = SOON + timedelta(hours=1)
    chat.put(reminder(), reminder(due=later))
    outcome = await chat.reminded()
    assert nothing(outcome)
    assert [arm.due for arm in outcome.write.arms] == [round(later.timestamp() * 1000)]
    assert said(await chat.reminded(due=later)) == ["utter_goodbye"]


async def test_reminder_outlives_the_session(chat):
    start = now_ms()
    await chat.say("hello", ts=start)
    chat.put(reminder(kill_on_user_message=False))
    await chat.say("hello", ts=start + 3 * 3_600_000)
    assert said(await chat.reminded()) == ["utter_goodbye"]


async def test_reminder_with_an_unknown_intent_is_dropped(chat):
    await chat.say("hello")
    chat.put(reminder(intent="no_such_intent"))
    assert nothing(await chat.reminded())
    assert nothing(await chat.reminded("never scheduled"))


async def test_reminder_waits_for_the_end_of_a_pause(chat):
    """The reminder then fires once."""
    await chat.say("hello")
    chat.put(reminder(kill_on_user_message=False), ConversationPaused())
    put_off = await chat.reminded()
    assert nothing(put_off) and [arm.member for arm in put_off.write.arms] == ["reminder demo:alice r"]
    chat.put(ConversationResumed())
    assert said(await chat.reminded()) == ["utter_goodbye"]
    assert nothing(await chat.reminded())


async def test_reminder_with_a_failing_action_tells_the_customer(chat, actions):
    await chat.say("hello")
    chat.put(reminder(intent="track_order", entities={"order_number": "20260001"}))
    actions.answer = actions.broken
    assert said(await chat.reminded()) == ["utter_action_failed"]


async def test_text_of_a_timer_fills_no_slot(chat):
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


async def test_reminders_survive_trimming_and_a_restart(agent, chat):
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
        assert set(reminders.reminders(live.tracker.events).standing) == {"r"}
    chat.live = again
    assert said(await chat.reminded()) == ["utter_goodbye"]


async def test_turn_arms_reminders_of_its_action_up_to_a_limit(chat, actions):
    many = [f"r{n}" for n in range(timers.MAX_REMINDERS + 5)] + ["x" * 300]

    async def schedule(body):
        if body["next_action"].startswith("validate_"):
            return await actions.form_is_content(body)
        events = [{**reminder(name).as_dict(), "event": "reminder"} for name in many]
        return {"events": events, "responses": [{"text": "done"}]}

    actions.answer = schedule
    outcome = await chat.say("where is my order 20260001?")
    assert [arm.member for arm in outcome.write.arms] == [
        f"reminder demo:alice r{n}" for n in range(timers.MAX_REMINDERS)
    ]
    assert {arm.due for arm in outcome.write.arms} == {round(SOON.timestamp() * 1000)}
