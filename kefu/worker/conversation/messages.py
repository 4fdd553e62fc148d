"""Distinguishes the messages that the customer wrote from those that a timer triggered."""

from typing import Optional, Sequence

from rasa.shared.core.constants import IS_EXTERNAL
from rasa.shared.core.events import Event, UserUttered

HEARD_AT = "heard_at"  # key in the metadata of a customer's message: when its turn began, in ms


def is_external(event: UserUttered) -> bool:
    """Return whether a timer (or another trigger) caused a message, not the customer."""
    return bool((event.metadata or {}).get(IS_EXTERNAL))


def last_said(events: Sequence[Event]) -> Optional[UserUttered]:
    """Return the customer's last message, None if there is none.

    The tracker's `latest_message` can't be used, because it may be a message that a timer triggered.
    """
    for event in reversed(events):
        if type(event) is UserUttered and not is_external(event):
            return event
    return None
