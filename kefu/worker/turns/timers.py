"""UNDERSTAND AND DECIDE, for timers: which timers a turn arms, and what a due timer triggers.

In: `ReminderDue` and `SessionIdled` in their conversation's lane. Out: a verdict: the intent that triggers the
assistant, or the reason why nothing is triggered. ops/decisions/0004 explains why a timer fires once.
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

# Limits the reminders that are set in one conversation. Further ones are refused, so that an action that schedules
# without end can't fill the index.
MAX_REMINDERS = 20
# If the worker comes to a silence timer later than this, the timer is put off: while the inbox has a backlog, a message
# of the customer may wait behind the timer in Kafka.
LATE_MS = 60_000
PUT_OFF_MS = 5 * 60_000  # how long a due reminder is put off while a person answers the conversation


class Verdict(NamedTuple):
    """The decision on a due timer.

    Attributes:
        intent: the intent to trigger; None if nothing is triggered now.
        entities: of the message that triggers the intent.
        why: the reason why nothing is triggered, as the metric's label.
        again: the timer's new due time, in ms; None if the timer is over.
    """

    intent: Optional[str] = None
    entities: Sequence[Dict[str, Any]] = ()
    why: str = ""
    again: Optional[int] = None


def judge(live: LiveConversation, timer: TimerDue, processor: TurnProcessor, idle_ms: int) -> Verdict:
    """Return the verdict on a due timer: the intent that it triggers now, or why it triggers none.

    Args:
        live: the timer's conversation.
        timer: a reminder or a silence.
        processor: has the domain's intents, and decides when a session is over.
        idle_ms: how long a customer may be silent; 0 for no limit.
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
    """Return the due reminder; a verdict if it was cancelled, has fired, or was moved to a later time."""
    scheduled = reminders.reminders(live.tracker.events)
    reminder = scheduled.standing.get(timer.name)
    if reminder is None:
        return Verdict(why=scheduled.ended.get(timer.name, "unknown"))
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

    Actions read the tenant, the user and the client from the metadata, so these are copied from the customer's last
    message. The metadata's last key marks the message as a reminder's or a silence's, see `conversation.reminders`.
    The turn may end without a reply. The customer is told of a reminder's failure, because the customer counts on the
    reminder, but not of a silence's.
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
    """Return a completed NLU result with the timer's intent and entities."""
    done = asyncio.get_running_loop().create_future()
    intent = {"name": verdict.intent, "confidence": 1.0}
    done.set_result({"text": _words(verdict), "intent": intent, "entities": list(verdict.entities)})
    return done


def _words(verdict: Verdict) -> str:
    return f"{EXTERNAL_MESSAGE_PREFIX}{verdict.intent}"


def moved_arms(live: LiveConversation, timer: TimerDue, verdict: Verdict) -> List[Arm]:
    """Return the index entry of a timer that was moved or put off; empty if the timer is over."""
    if verdict.again is None:
        return []
    name = None if type(timer) is SessionIdled else timer.name
    return [Arm(live.partition, due_entry(live.conversation, name), verdict.again)]


def standing_arms(live: LiveConversation, domain: Domain, idle_ms: int) -> List[Arm]:
    """Return the index entries of all timers that are set in a conversation: its reminders and the silence's."""
    arms = _reminders(live, list(reminders.reminders(live.tracker.events).standing))
    return arms + (silence_arms(live, domain, idle_ms) if idle_ms else [])


def reminder_arms(live: LiveConversation, events: List[Event]) -> List[Arm]:
    """Return the index entries of the reminders that a turn's events schedule."""
    names = [event.name for event in events if type(event) is ReminderScheduled]
    return _reminders(live, names) if names else []


def _reminders(live: LiveConversation, names: List[str]) -> List[Arm]:
    """Return the index entries of the reminders with these names. Those beyond a limit are refused and logged."""
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
    """Return the index entry of the customer's silence; empty if paused, or if the domain lists no intent for it."""
    if live.tracker.is_paused() or reminders.idle_intent(live.tracker, domain) is None:
        return []
    begun = reminders.silence(live.tracker.events)
    return [Arm(live.partition, due_entry(live.conversation), begun.since + idle_ms)] if begun else []
