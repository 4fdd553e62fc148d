"""The messages of a conversation: which of them the customer wrote, and which came of a timer."""

from typing import Optional, Sequence

from rasa.shared.core.constants import IS_EXTERNAL
from rasa.shared.core.events import Event, UserUttered

HEARD_AT = "heard_at"  # in the metadata of a customer's message: when its turn began, in ms


def is_external(event: UserUttered) -> bool:
    """Return whether a message came of a timer (or another trigger) and not of the customer."""
    return bool((event.metadata or {}).get(IS_EXTERNAL))


def last_said(events: Sequence[Event]) -> Optional[UserUttered]:
    """Return the customer's last message, None for none. Rasa's own look-up would take a timer's for it."""
    for event in reversed(events):
        if type(event) is UserUttered and not is_external(event):
            return event
    return None
