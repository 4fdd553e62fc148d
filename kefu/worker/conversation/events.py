"""Rasa's events as the dicts that are stored and published, and back."""

from typing import Any, Dict, List, Type

from rasa.shared.core.events import Event, ReminderCancelled
from rasa.shared.utils.common import all_subclasses

_KINDS: Dict[str, Type[Event]] = {}
for _kind in all_subclasses(Event):
    _KINDS.setdefault(_kind.type_name, _kind)  # the first of a name, as Rasa finds it


def read_events(dicts: List[Dict[str, Any]]) -> List[Event]:
    """Return the events of these dicts. Raises ValueError for a name that no event has."""
    events = []
    for each in dicts:
        kind = _KINDS.get(each.get("event", ""))
        event = kind._from_parameters(each) if kind is not None else Event.from_parameters(each)
        if event is not None:
            events.append(event)
    return events


def as_stored(events: List[Event]) -> List[Dict[str, Any]]:
    """Return events as the dicts that leave the process, in Rasa's form.

    They need no mask: personal data was masked where it came in. The gateway and `read` mask the customer's words,
    the ActionEndpoint masks the shop's answers.
    """
    return [stored_cancel(event) if type(event) is ReminderCancelled else event.as_dict() for event in events]


def stored_cancel(cancelled: ReminderCancelled) -> Dict[str, Any]:
    """Return the event as it is stored; Rasa's own `as_dict` forgets which reminder is meant, and so means all."""
    fields = {"name": cancelled.name, "intent": cancelled.intent, "entities": cancelled.entities}
    return {**cancelled.as_dict(), **fields}
