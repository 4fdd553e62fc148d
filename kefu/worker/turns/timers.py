"""UNDERSTAND AND DECIDE, for timers: what a turn arms, and what to do with a timer that is due.

In: `ReminderDue` and `SessionIdled` in their conversation's lane. Out: a verdict: the message that triggers the
assistant, or why the timer no longer stands. ops/decisions/0004 says why a timer fires once.
"""

import asyncio
import logging
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

from rasa.shared.core.constants import EXTERNAL_MESSAGE_PREFIX, IS_EXTERNAL
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import Event, ReminderScheduled

from kefu import metrics
from kefu.events import ReminderDue, SessionIdled, TimerDue, now_ms
from kefu.keys import MAX_REMINDER_NAME_CHARS, due_entry
from kefu.worker.conversation import reminders
from kefu.worker.conversation.handoffs import TIMER as HANDOFF_TIMER
from kefu.worker.conversation.messages import last_said
from kefu.worker.conversation.stored import Arm
from kefu.worker.engine.processor import TurnProcessor
from kefu.worker.turns.live import LiveConversation
from kefu.worker.turns.turn import Utterance

logger = logging.getLogger(__name__)

MAX_REMINDERS = 20  # of one conversation: an action that schedules without end must not fill the index
LATE_MS = 60_000  # a silence that waited longer in Kafka may have been broken by a message behind it
PUT_OFF_MS = 5 * 60_000  # a reminder that is due while a person has the conversation is due again after so long


class Verdict(NamedTuple):
    """What to do with a timer that is due.

    Attributes:
        intent: to trigger; None when the timer no longer stands.
        entities: of the message that triggers it.
        why: it doesn't, a word for the metric.
        again: when to look again, in ms; None for never.
    """

    intent: Optional[str] = None
    entities: Sequence[Dict[str, Any]] = ()
    why: str = ""
    again: Optional[int] = None


def judge(live: LiveConversation, timer: TimerDue, processor: TurnProcessor, idle_ms: int) -> Verdict:
    """Return what to do with a timer that is due.

    Args:
        live: its conversation.
        timer: a reminder or a silence.
        processor: knows the intents, and when a session is over.
        idle_ms: how long a silence may last; 0 for as long as it likes.
    """
    if type(timer) is SessionIdled:
        return _judge_silence(live, timer, processor, idle_ms)
    reminder = due_reminder(live, timer)
    if isinstance(reminder, Verdict):
        return reminder
    if reminder.intent not in processor.domain.intent_properties:
        return Verdict(why="unknown_intent")
    if live.tracker.is_paused():  # the assistant can't act on it now
        return Verdict(why="paused", again=now_ms() + PUT_OFF_MS)
    return Verdict(reminder.intent, reminders.entities_of(reminder))


def due_reminder(live: LiveConversation, timer: ReminderDue) -> Union[ReminderScheduled, Verdict]:
    """Return the reminder that is due, or why it isn't."""
    found = reminders.reminders(live.tracker.events)
    reminder = found.standing.get(timer.name)
    if reminder is None:
        return Verdict(why=found.ended.get(timer.name, "unknown"))
    if reminders.due_ms(reminder) > timer.due:
        return Verdict(why="moved", again=reminders.due_ms(reminder))
    return reminder


def _judge_silence(live: LiveConversation, timer: SessionIdled, processor: TurnProcessor, idle_ms: int) -> Verdict:
    tracker, silence = live.tracker, reminders.silence(live.tracker.events)
    intent = reminders.idle_intent(tracker, processor.domain)
    if not idle_ms or intent is None or silence is None:
        return Verdict(why="not_wanted")
    if silence.told:
        return Verdict(why="told_before")
    if tracker.is_paused():
        return Verdict(why="paused")
    if timer.due < silence.since + idle_ms:
        return Verdict(why="message_since", again=silence.since + idle_ms)
    if processor.session_over(tracker, timer.ts / 1000):
        return Verdict(why="session_over")
    if now_ms() - timer.ts > LATE_MS:
        return Verdict(why="late", again=now_ms() + idle_ms)
    return Verdict(intent)


def utterance_of(live: LiveConversation, timer: TimerDue, verdict: Verdict) -> Utterance:
    """Return the external message of a timer, as `trigger_external_user_uttered` makes one.

    Actions go by the customer's last message, and the rules tell timers by the last words of the metadata. Its turn
    may end without a reply. A reminder's failure is told, for somebody counts on it; a silence's is not, for nobody
    asked about it.
    """
    last = last_said(live.tracker.events)
    known = (last.metadata or {}) if last else {}
    fired = {reminders.FIRED_IDLE: True} if type(timer) is SessionIdled else {reminders.FIRED_REMINDER: timer.name}
    metadata = {
        "tenant": timer.tenant,
        "user": timer.user,
        "identified": bool(known.get("identified")),
        "message_id": timer.message_id,
        "client": known.get("client") or {},
        IS_EXTERNAL: True,
        **fired,
    }
    return Utterance(_words(verdict), metadata, must_reply=False, tells_failure=type(timer) is not SessionIdled)


def parsed(verdict: Verdict) -> "asyncio.Future[Dict[str, Any]]":
    """Return what NLU would have made of a message with the timer's intent and entities."""
    done = asyncio.get_running_loop().create_future()
    intent = {"name": verdict.intent, "confidence": 1.0}
    done.set_result({"text": _words(verdict), "intent": intent, "entities": list(verdict.entities)})
    return done


def _words(verdict: Verdict) -> str:
    return f"{EXTERNAL_MESSAGE_PREFIX}{verdict.intent}"


def moved_arms(live: LiveConversation, timer: TimerDue, verdict: Verdict) -> List[Arm]:
    """Return where a timer that was moved is found again; empty for one that isn't looked at again."""
    if verdict.again is None:
        return []
    name = None if type(timer) is SessionIdled else timer.name
    return [Arm(live.partition, due_entry(live.conversation, name), verdict.again)]


def standing_arms(live: LiveConversation, domain: Domain, idle_ms: int) -> List[Arm]:
    """Return where to find all timers that stand of a conversation, and when."""
    arms = _reminders(live, list(reminders.reminders(live.tracker.events).standing))
    return arms + (silence_arms(live, domain, idle_ms) if idle_ms else [])


def reminder_arms(live: LiveConversation, events: List[Event]) -> List[Arm]:
    """Return where to find the reminders that a turn's events schedule, and when."""
    names = [event.name for event in events if type(event) is ReminderScheduled]
    return _reminders(live, names) if names else []


def _reminders(live: LiveConversation, names: List[str]) -> List[Arm]:
    arms = []
    for place, (name, reminder) in enumerate(reminders.reminders(live.tracker.events).standing.items()):
        if name not in names:
            continue
        if (place >= MAX_REMINDERS and name != HANDOFF_TIMER) or not 0 < len(name) <= MAX_REMINDER_NAME_CHARS:
            metrics.TIMERS_DROPPED.labels("ReminderDue", "refused").inc()
            logger.error("reminder refused: too many, or its name is empty or too long")
            continue
        arms.append(Arm(live.partition, due_entry(live.conversation, name), reminders.due_ms(reminder)))
    return arms


def silence_arms(live: LiveConversation, domain: Domain, idle_ms: int) -> List[Arm]:
    """Return when the customer will have been silent for too long; empty where the domain wants to know of none."""
    if live.tracker.is_paused() or reminders.idle_intent(live.tracker, domain) is None:
        return []
    begun = reminders.silence(live.tracker.events)
    return [Arm(live.partition, due_entry(live.conversation), begun.since + idle_ms)] if begun else []
