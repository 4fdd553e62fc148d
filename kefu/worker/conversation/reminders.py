"""Finds in a conversation's events the timers that are still to fire. Reads no clock and no store.

In: the events of a tracker, oldest first. Out: the standing reminders (scheduled, and neither fired nor cancelled) and
the customer's silence. The events decide; an entry in the index of due times is only a hint of when to look.
"""

from typing import Any, Dict, Iterable, NamedTuple, Optional, Sequence

from rasa.shared.core.domain import Domain
from rasa.shared.core.events import Event, ReminderCancelled, ReminderScheduled, Restarted, UserUttered
from rasa.shared.core.trackers import DialogueStateTracker

from kefu.worker.conversation.messages import HEARD_AT, is_external

# Intents that a silence triggers. A silence is scheduled only if the domain lists one of them.
FORM_IDLED = "form_idled"  # while a form waits for an answer
SESSION_IDLED = "session_idled"  # at any time
# Keys in the metadata of an external message on the tracker.
FIRED_REMINDER = "reminder"  # value: the reminder's name
FIRED_IDLE = "idle"  # value: true for a silence


class Reminders(NamedTuple):
    """The standing reminders of a conversation by name, and the reasons why the others ended."""

    standing: Dict[str, ReminderScheduled]
    ended: Dict[str, str]


class Silence(NamedTuple):
    """The customer's silence: when it began, in ms, and whether it has already triggered an intent (`told`)."""

    since: int
    told: bool


def reminders(events: Iterable[Event]) -> Reminders:
    """Return the reminders that are still set after `events`, and the reasons why the others ended.

    As in Rasa, a reminder replaces an earlier one of its name, and a restart ends all. Unlike in Rasa, a new session
    ends none: otherwise every reminder of more than half an hour would be lost.
    """
    timers = Reminders({}, {})
    for event in events:
        kind = type(event)
        if kind is ReminderScheduled:
            timers.standing[event.name] = event
        elif kind is ReminderCancelled:
            _end(timers, "cancelled", [r for r in timers.standing.values() if _cancels(event, r)])
        elif kind is Restarted:
            _end(timers, "restarted", list(timers.standing.values()))
        elif kind is UserUttered and timers.standing:
            _end_by_message(timers, event)
    return timers


def _end_by_message(timers: Reminders, message: UserUttered) -> None:
    """End the reminder that fired as this message, or those that a message of the customer cancels."""
    if is_external(message):
        fired = message.metadata.get(FIRED_REMINDER)
        _end(timers, "fired", [r for r in timers.standing.values() if r.name == fired])
    else:
        _end(timers, "message_since", [r for r in timers.standing.values() if r.kill_on_user_message])


def _end(timers: Reminders, reason: str, ended: Iterable[ReminderScheduled]) -> None:
    for reminder in ended:
        del timers.standing[reminder.name]
        timers.ended[reminder.name] = reason


def _cancels(cancelled: ReminderCancelled, reminder: ReminderScheduled) -> bool:
    """Return whether `cancelled` cancels the reminder, by the rule of `ReminderCancelled.cancels_job_with_name`."""
    return (
        (not cancelled.name or cancelled.name == reminder.name)
        and (not cancelled.intent or cancelled.intent == reminder.intent)
        and (not cancelled.entities or str(cancelled.entities) == str(reminder.entities))
    )


def due_ms(reminder: ReminderScheduled) -> int:
    """Return when a reminder is due, in ms. A time without a zone is local time, as in Rasa's scheduler."""
    return int(reminder.trigger_date_time.timestamp() * 1000)


def entities_of(reminder: ReminderScheduled) -> "list[Dict[str, Any]]":
    """Return a reminder's entities in Rasa's form. Actions may also give a dict of names and values."""
    entities: Any = reminder.entities or []
    if not isinstance(entities, dict):
        return entities
    return [{"entity": name, "value": value} for name, value in entities.items()]


def silence(events: Sequence[Event]) -> Optional[Silence]:
    """Return the customer's silence, None if the customer never wrote.

    The silence begins when the turn of the customer's last message began, not when the message was sent. While a
    message waits in a backlog, the assistant is silent, not the customer.
    """
    told = False
    for event in reversed(events):
        if type(event) is not UserUttered:
            continue
        if not is_external(event):
            metadata = event.metadata or {}
            return Silence(max(round(event.timestamp * 1000), int(metadata.get(HEARD_AT) or 0)), told)
        told = told or bool(event.metadata.get(FIRED_IDLE))
    return None


def idle_intent(tracker: DialogueStateTracker, domain: Domain) -> Optional[str]:
    """Return the intent that a silence triggers now, None if the domain lists none."""
    intents = domain.intent_properties
    if tracker.active_loop_name and FORM_IDLED in intents:
        return FORM_IDLED
    return SESSION_IDLED if SESSION_IDLED in intents else None
