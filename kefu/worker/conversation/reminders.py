"""Which timers of a conversation stand: told from its own events, with no clock and no store.

In: the events of a tracker, oldest first. Out: the reminders that stand and the customer's silence.
The events are the truth; what lies in the index of due times is only a hint of when to look.
"""

from typing import Any, Dict, Iterable, NamedTuple, Optional, Sequence

from rasa.shared.core.domain import Domain
from rasa.shared.core.events import Event, ReminderCancelled, ReminderScheduled, Restarted, UserUttered
from rasa.shared.core.trackers import DialogueStateTracker

from kefu.worker.conversation.messages import HEARD_AT, is_external

# Intents of silence: which of them the domain lists decides what is scheduled at all.
FORM_IDLED = "form_idled"  # while a form waits for an answer
SESSION_IDLED = "session_idled"  # at any time
# In the metadata of an external message on the tracker.
FIRED_REMINDER = "reminder"  # the reminder's name
FIRED_IDLE = "idle"  # true for a silence


class Reminders(NamedTuple):
    """The reminders of a conversation by name: those that stand, and why the others don't."""

    standing: Dict[str, ReminderScheduled]
    ended: Dict[str, str]


class Silence(NamedTuple):
    """Since when the customer has said nothing, in ms, and whether that has had its turn already."""

    since: int
    told: bool


def reminders(events: Iterable[Event]) -> Reminders:
    """Return the reminders that were ever scheduled in `events`, and what became of them.

    As in Rasa, one scheduled again under its name replaces the first, and a restart ends all. Other
    than in Rasa a new session ends none, for every reminder of more than half an hour would be lost.
    """
    found = Reminders({}, {})
    for event in events:
        kind = type(event)
        if kind is ReminderScheduled:
            found.standing[event.name] = event
        elif kind is ReminderCancelled:
            _end(found, "cancelled", [r for r in found.standing.values() if _cancels(event, r)])
        elif kind is Restarted:
            _end(found, "restarted", list(found.standing.values()))
        elif kind is UserUttered and found.standing:
            _hear(found, event)
    return found


def _hear(found: Reminders, message: UserUttered) -> None:
    if is_external(message):
        fired = message.metadata.get(FIRED_REMINDER)
        _end(found, "fired", [r for r in found.standing.values() if r.name == fired])
    else:
        _end(found, "message_since", [r for r in found.standing.values() if r.kill_on_user_message])


def _end(found: Reminders, why: str, ended: Iterable[ReminderScheduled]) -> None:
    for reminder in ended:
        del found.standing[reminder.name]
        found.ended[reminder.name] = why


def _cancels(cancelled: ReminderCancelled, reminder: ReminderScheduled) -> bool:
    """Return whether it is meant, by the rule of `ReminderCancelled.cancels_job_with_name`."""
    return (
        (not cancelled.name or cancelled.name == reminder.name)
        and (not cancelled.intent or cancelled.intent == reminder.intent)
        and (not cancelled.entities or str(cancelled.entities) == str(reminder.entities))
    )


def due_ms(reminder: ReminderScheduled) -> int:
    """Return when a reminder is due, in ms; a time without zone is local, as Rasa's scheduler takes it."""
    return int(reminder.trigger_date_time.timestamp() * 1000)


def entities_of(reminder: ReminderScheduled) -> "list[Dict[str, Any]]":
    """Return the entities in Rasa's form; actions may give them as a dict of names and values."""
    given: Any = reminder.entities or []
    return [{"entity": name, "value": value} for name, value in given.items()] if isinstance(given, dict) else given


def silence(events: Sequence[Event]) -> Optional[Silence]:
    """Return the customer's silence, None if the customer never wrote.

    It begins when the message was taken up, not when it was sent: while a message waits in a
    backlog, it is the assistant that is silent.
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
    """Return the intent that stands for silence now, None where the domain lists none for it."""
    intents = domain.intent_properties
    if tracker.active_loop_name and FORM_IDLED in intents:
        return FORM_IDLED
    return SESSION_IDLED if SESSION_IDLED in intents else None
