"""A conversation during a hand-over: turn by turn, in memory, on the trained model."""

import asyncio
import time
from datetime import datetime, timezone

import orjson
import pytest
from rasa.shared.core.events import ReminderScheduled

from kefu.events import HandoffEnded, ReminderDue, UserSaid, now_ms
from kefu.worker.conversation import handoffs
from kefu.worker.conversation.events import as_stored
from kefu.worker.conversation.reminders import due_ms
from kefu.worker.conversation.stored import Stored, handoff_change
from kefu.worker.inbox.publishing import handed_over
from kefu.worker.turns.live import TURNS_BEFORE_TRIM, LiveConversation, snapshot_of
from tests.worker.handing import WAIT_S, Desk, said

pytestmark = pytest.mark.asyncio
ASK = {"zh": "转人工", "en": "I want to talk to a human agent"}


@pytest.fixture
def chat(agent):
    return Desk(agent)


def silent(outcome):
    return outcome.answer.status == "answered" and outcome.write.replies == []


@pytest.mark.parametrize("language", ASK)
async def test_asking_for_a_person_silences_the_assistant(chat, language):
    """The customer is told that a person will answer. Later messages are stored without an answer."""
    outcome = await chat.say(ASK[language])
    assert said(outcome) == ["utter_handoff_started"]
    assert "action_hand_over" in outcome.answer.actions
    assert chat.live.tracker.is_paused()
    for text in ("hello?", "订单20260001到哪了", "/restart"):
        heard = await chat.say(text)
        assert silent(heard)
        assert heard.write.events[0]["event"] == "user", "it is kept all the same"


async def test_hand_over_needs_no_action_server(chat, actions):
    actions.answer = actions.broken
    assert said(await chat.say(ASK["en"])) == ["utter_handoff_started"]
    assert actions.calls == []


async def test_clarifying_action_can_hand_over(chat, actions):
    """The action does so when NLU did not understand three messages in a row."""

    async def hands_over(body):
        assert body["next_action"] == "action_clarify"
        return {"events": [{"event": "followup", "name": "action_hand_over"}], "responses": []}

    actions.answer = hands_over
    parsed = asyncio.get_running_loop().create_future()
    parsed.set_result({"text": "x", "intent": {"name": "nlu_fallback", "confidence": 0.3}, "entities": []})
    message = UserSaid("demo", "alice", "m1", text="x", identified=True)
    outcome = chat.take(await chat.runner.run(chat.live, message, parsed, time.monotonic()))
    assert said(outcome) == ["utter_handoff_started"]
    assert (chat.handoff.by, chat.handoff.summary["asked"]) == ("action_hand_over", "x")


async def test_action_that_pauses_starts_a_hand_over(chat, actions):
    """The platform tells the customer if the action says nothing."""

    async def pauses(body):
        done = {"event": "slot", "name": "requested_slot", "value": None}
        return {
            "events": [done if body["next_action"].startswith("validate_") else {"event": "pause"}],
            "responses": [],
        }

    actions.answer = pauses
    assert said(await chat.say("where is my order 20260001")) == ["utter_handoff_started"]
    assert (chat.handoff.by, chat.handoff.summary["task"]) == ("action_track_order", "track_order_form")


async def test_platform_adds_nothing_to_an_actions_own_words(chat, actions):
    """The action starts a hand-over and tells the customer itself."""

    async def pauses(body):
        if body["next_action"].startswith("validate_"):
            return {"events": [{"event": "slot", "name": "requested_slot", "value": None}], "responses": []}
        return {"events": [{"event": "pause"}], "responses": [{"text": "a colleague will see to it"}]}

    actions.answer = pauses
    outcome = await chat.say("where is my order 20260001")
    assert [reply["text"] for reply in outcome.write.replies] == ["a colleague will see to it"]
    assert chat.handoff


async def test_hand_over_record_has_a_masked_summary(chat):
    """The summary gives the form, the intent, the question and the last turns."""
    await chat.say("hello, my number is 13800001234")
    await chat.say("where is my order")
    outcome = await chat.say(ASK["en"])
    (raw,) = handed_over(_cause(outcome), outcome.write.encoded_events)
    record = orjson.loads(raw)
    assert (record["type"], record["tenant"], record["user"]) == ("HandoffStarted", "demo", "alice")
    assert (record["id"], record["by"]) == (chat.handoff.id, "action_hand_over")
    summary = record["summary"]
    assert (summary["task"], summary["identified"], summary["language"]) == ("track_order_form", True, "en")
    assert (summary["intent"], summary["asked"]) == ("track_order", "where is my order")
    assert "13800001234" not in raw.decode() and "*******1234" in raw.decode()
    assert [turn["from"] for turn in summary["turns"]][:3] == ["customer", "assistant", "customer"]
    assert chat.live.tracker.active_loop_name is None, "the form is over"


async def test_only_the_turn_that_hands_over_makes_a_record(chat):
    outcomes = [await chat.say("hello"), await chat.say(ASK["zh"]), await chat.say("在吗"), await chat.taken()]
    outcomes += [await chat.spoken("您好"), await chat.ended()]
    made = [len(list(handed_over(_cause(each), each.write.encoded_events))) for each in outcomes]
    assert made == [0, 1, 0, 0, 0, 0]


def _cause(outcome):
    return UserSaid("demo", "alice", outcome.answer.message_id, text="x", id=outcome.answer.cause)


async def test_replies_of_a_hand_over_are_numbered_without_gaps(chat):
    """A person takes the hand-over, writes to the customer and ends it."""
    seqs = [reply["seq"] for reply in (await chat.say(ASK["zh"])).write.replies]
    outcome = await chat.taken()
    assert (said(outcome), outcome.answer.status) == (["utter_handoff_taken"], "answered")
    assert (chat.handoff.status, chat.handoff.agent) == ("taken", "li.wei")
    seqs += [reply["seq"] for reply in outcome.write.replies]
    spoken = await chat.spoken("您好，我是小李", name="小李")
    (reply,) = spoken.write.replies
    assert (reply["text"], reply["custom"]) == ("您好，我是小李", {"agent": {"name": "小李"}})
    assert reply["message_id"] == spoken.answer.cause == spoken.answer.message_id
    seqs.append(reply["seq"])
    ended = await chat.ended()
    assert said(ended) == ["utter_handoff_ended"]
    seqs += [reply["seq"] for reply in ended.write.replies]
    assert seqs == [1, 2, 3, 4]
    assert chat.handoff is None and not chat.live.tracker.is_paused()


async def test_assistant_keeps_its_slots_through_a_hand_over(chat):
    await chat.say("where is my order 20260001")
    known = dict(chat.live.tracker.current_slot_values())
    await chat.say(ASK["en"])
    await chat.taken()
    await chat.say("my parcel is late")
    await chat.spoken("let me see")
    await chat.ended()
    slots = chat.live.tracker.current_slot_values()
    assert (slots["last_order_number"], slots["language"]) == (known["last_order_number"], "en")
    assert said(await chat.say("thank you")) == ["utter_thank"]
    assert said(await chat.say("where is my order 20260001")) == ["utter_order_shipped"]


async def test_second_agent_to_take_a_hand_over_is_refused(chat):
    """The first agent may repeat the request."""
    await chat.say(ASK["zh"])
    await chat.taken("li.wei")
    refused = await chat.taken("zhang.min")
    assert (refused.answer.status, refused.answer.reason) == ("refused", handoffs.TAKEN_BY_OTHER)
    assert refused.write.events == [] and refused.write.replies == []
    again = await chat.taken("li.wei")
    assert (again.answer.status, again.write.events) == ("answered", [])
    assert chat.handoff.agent == "li.wei"


@pytest.mark.parametrize("what", ["spoken", "ended"])
async def test_only_the_agent_of_a_hand_over_speaks_and_ends_it(chat, what):
    async def tried(agent):
        outcome = await (chat.spoken("hi", agent) if what == "spoken" else chat.ended(agent))
        return outcome.answer.status, outcome.answer.reason, outcome.write.replies

    await chat.say(ASK["zh"])
    assert await tried("li.wei") == ("refused", handoffs.NOT_TAKEN, [])
    await chat.taken("li.wei")
    assert await tried("zhang.min") == ("refused", handoffs.NOT_TAKEN, [])
    assert (await tried("li.wei"))[0] == "answered"


async def test_request_for_no_current_hand_over_is_refused(chat):
    """The hand-over never began, or it has ended."""
    await chat.say("hello")
    for outcome in (await chat.taken(handoff="0" * 32), await chat.spoken("hi", handoff="0" * 32)):
        assert (outcome.answer.status, outcome.answer.reason) == ("refused", handoffs.ENDED)
    await chat.say(ASK["zh"])
    first = chat.handoff.id
    await chat.taken()
    await chat.ended()
    for outcome in (await chat.spoken("late", handoff=first), await chat.ended(handoff=first)):
        assert (outcome.answer.reason, outcome.write.replies) == (handoffs.ENDED, [])
    await chat.say(ASK["zh"])
    assert chat.handoff.id != first
    assert (await chat.taken(handoff=first)).answer.reason == handoffs.ENDED, "it means the first one"


async def test_unanswered_customer_gets_the_assistant_back(chat):
    """The customer is told that nobody was free."""
    await chat.say(ASK["en"])
    assert abs(due_ms(chat.timer) - now_ms() - WAIT_S * 1000) < 60_000
    outcome = await chat.waited()
    assert said(outcome) == ["utter_handoff_unanswered"]
    assert chat.handoff is None and chat.timer is None
    assert said(await chat.say("thank you")) == ["utter_thank"]
    ended = [event for event in outcome.write.events if event["event"] == "resume"]
    assert ended[0]["metadata"]["handoff"]["why"] == "unanswered"


async def test_hand_over_timer_is_void_once_a_person_spoke(chat):
    """The turn that hands over arms the timer."""
    arms = (await chat.say(ASK["en"])).write.arms
    assert [arm.member for arm in arms] == [f"reminder demo:alice {handoffs.TIMER}"]
    await chat.taken()
    due = due_ms(chat.timer)
    await chat.spoken("hello")
    assert chat.timer is None
    dropped = await chat.run(ReminderDue("demo", "alice", handoffs.TIMER, due))
    assert silent(dropped) and dropped.write.events == []
    assert chat.handoff.agent == "li.wei"


async def test_silent_agent_loses_the_hand_over(chat):
    await chat.say(ASK["en"])
    before = due_ms(chat.timer)
    await chat.taken()
    assert due_ms(chat.timer) >= before, "the time begins anew when somebody comes"
    assert said(await chat.waited()) == ["utter_handoff_unanswered"]
    assert (await chat.spoken("here I am", handoff="0" * 32)).answer.status == "refused"


async def test_unanswered_later_question_ends_a_hand_over(chat):
    """The time counts from the customer's first message without an answer."""
    await chat.say(ASK["en"])
    await chat.taken()
    await chat.spoken("one moment")
    heard = await chat.say("still there?")
    assert [arm.member for arm in heard.write.arms] == [f"reminder demo:alice {handoffs.TIMER}"]
    first = due_ms(chat.timer)
    await chat.say("hello?")
    assert due_ms(chat.timer) == first, "it counts from the first word without an answer"
    assert said(await chat.waited()) == ["utter_handoff_unanswered"]


async def test_early_hand_over_timer_is_armed_again(chat):
    await chat.say(ASK["en"])
    early = await chat.waited(after_ms=-1000)
    assert silent(early) and [arm.due for arm in early.write.arms] == [due_ms(chat.timer)]
    assert chat.handoff


async def test_reminders_wait_for_the_end_of_a_hand_over(chat):
    soon = datetime(2030, 1, 1, tzinfo=timezone.utc)
    await chat.say("hello")
    chat.live.tracker.update(ReminderScheduled("goodbye", soon, name="r", kill_on_user_message=False))
    await chat.say(ASK["en"])
    put_off = await chat.run(ReminderDue("demo", "alice", "r", round(soon.timestamp() * 1000)))
    assert silent(put_off)
    (arm,) = put_off.write.arms
    assert arm.member == "reminder demo:alice r" and arm.due > now_ms()
    await chat.waited()
    assert said(await chat.run(ReminderDue("demo", "alice", "r", round(soon.timestamp() * 1000) + 1))) == [
        "utter_goodbye"
    ]


async def test_session_expiry_does_not_end_a_hand_over(chat):
    start = now_ms()
    await chat.say(ASK["en"], ts=start)
    late = await chat.say("anybody?", ts=start + 31 * 60_000)
    assert silent(late) and "action_session_start" not in late.answer.actions
    assert chat.handoff


async def test_nlu_failure_is_silent_during_a_hand_over(chat):
    await chat.say(ASK["en"])
    parsed = asyncio.get_running_loop().create_future()
    parsed.set_exception(ValueError("a bug"))
    message = UserSaid("demo", "alice", "x1", text="hello")
    assert silent(chat.take(await chat.runner.run(chat.live, message, parsed, time.monotonic())))


async def test_hand_over_survives_a_restore_and_trimming(chat, agent):
    turns = [(await chat.say(ASK["en"])).write.events, (await chat.taken()).write.events]
    handoff, timer = chat.handoff, chat.timer
    stored = Stored(version=2, turns=[orjson.loads(orjson.dumps(turn)) for turn in turns])
    again = LiveConversation.restore("demo:alice", chat.runner.processor.view, stored)
    assert handoffs.standing(again.tracker) == handoff
    for _ in range(TURNS_BEFORE_TRIM + 1):
        outcome = await chat.say("hello?")
    assert chat.handoff == handoff and due_ms(chat.timer) == due_ms(timer)
    stored = Stored(version=9, turns=[], snapshot=orjson.loads(orjson.dumps(_snapshot(chat))))
    again = LiveConversation.restore("demo:alice", chat.runner.processor.view, stored)
    assert handoffs.standing(again.tracker) == handoff
    assert outcome.write.listed, "and the desk finds it"


def _snapshot(chat):
    return as_stored(snapshot_of(chat.live.tracker))


async def test_turn_events_give_the_stored_hand_over(chat):
    """What Redis stores of a hand-over follows from a turn's events: set by its start and by the agent who takes it,
    unchanged by messages, deleted by its end.
    """
    assert _left(await chat.say("hello")) == b""
    started = orjson.loads(_left(await chat.say(ASK["en"])))
    assert (started["id"], started["status"]) == (chat.handoff.id, "waiting")
    assert _left(await chat.say("hello?")) == b""
    assert orjson.loads(_left(await chat.taken()))["agent"] == "li.wei"
    assert _left(await chat.spoken("hi")) == b""
    assert _left(await chat.ended()) == b"-"


def _left(outcome):
    return handoff_change(orjson.loads(outcome.write.encoded_events))


async def test_refused_desk_event_leaves_the_tracker_unchanged(chat):
    await chat.say("hello")
    before = len(chat.live.tracker.events)
    await chat.desk(HandoffEnded, handoff="0" * 32)
    assert len(chat.live.tracker.events) == before
