"""Converts Rasa's events to the dicts that are stored and published, and back."""

from typing import Any, Dict, List, Type

from rasa.shared.core.events import Event, ReminderCancelled
from rasa.shared.utils.common import all_subclasses

_KINDS: Dict[str, Type[Event]] = {}
for _kind in all_subclasses(Event):
    _KINDS.setdefault(_kind.type_name, _kind)  # if two classes have the same name, the first is used, as in Rasa


def read_events(dicts: List[Dict[str, Any]]) -> List[Event]:
    """Return the events of these dicts. Raises ValueError for a name that belongs to no event class."""
    events = []
    for each in dicts:
        kind = _KINDS.get(each.get("event", ""))
        event = kind._from_parameters(each) if kind is not None else Event.from_parameters(each)
        if event is not None:
            events.append(event)
    return events


def as_stored(events: List[Event]) -> List[Dict[str, Any]]:
    """Return events as the dicts that leave the process, in Rasa's form.

    Nothing is masked here, because personal data is masked where it enters: the gateway and `read` mask the customer's
    words, the ActionEndpoint masks the shop's answers.
    """
    return [stored_cancel(event) if type(event) is ReminderCancelled else event.as_dict() for event in events]


def stored_cancel(cancelled: ReminderCancelled) -> Dict[str, Any]:
    """Return a ReminderCancelled as it is stored. Rasa's `as_dict` drops its name, so it would cancel all reminders."""
    fields = {"name": cancelled.name, "intent": cancelled.intent, "entities": cancelled.entities}
    return {**cancelled.as_dict(), **fields}
