"""What was said last, as a form meets it: the latest message, and what was asked and offered before it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rasa_sdk import Tracker
from rasa_sdk.forms import REQUESTED_SLOT

SURE = 0.7  # an intent below it may be a free answer that happens to sound like it
OFFER_OF_A_PERSON = "utter_offer_person"
Entities = list[dict[str, Any]]


@dataclass(frozen=True)
class Heard:
    """The latest message, and at which point of a form it is read.

    Attributes:
        asked: the slot that the form had asked for; None while it opens, whatever another form was asking for.
        opens: whether the form begins with this message.
        returns: whether the message was answered otherwise, and the form only asks again.
        to_offer: whether it is a typed yes or no that may as well be meant for the person that was just offered.
    """

    text: str
    intent: str | None
    is_sure: bool
    entities: Entities
    asked: str | None
    opens: bool
    returns: bool
    to_offer: bool

    @classmethod
    def by(cls, form: str, tracker: Tracker) -> "Heard":
        """Return what the form of this name heard."""
        message = tracker.latest_message
        intent, text = message.get("intent") or {}, message.get("text") or ""
        done = list(_since_last_message(tracker))
        opens = any(event["event"] == "active_loop" and event["name"] == form for event in done)
        others = {event["name"] for event in done if event["event"] == "action"}
        return cls(
            text,
            intent.get("name"),
            (intent.get("confidence") or 0) >= SURE,
            message.get("entities") or [],
            None if opens else tracker.slots.get(REQUESTED_SLOT),
            opens,
            bool(others - {form, "action_listen", "action_extract_slots"}),
            not text.startswith("/") and is_person_offered(tracker),  # a button says which question it answers
        )

    def is_mostly(self, kinds: frozenset[str]) -> bool:
        """Return whether at least half of the text is entities of these kinds, whatever it was taken for."""
        spans = [each.get("end", 0) - each.get("start", 0) for each in self.entities if each["entity"] in kinds]
        return 0 < len(self.text) <= 2 * sum(spans)


def is_person_offered(tracker: Tracker) -> bool:
    """Return whether the replies to the message before the latest offered a person."""
    return any(
        (reply.get("metadata") or {}).get("utter_action") == OFFER_OF_A_PERSON for reply in last_replies(tracker)
    )


def last_replies(tracker: Tracker) -> Iterator[dict[str, Any]]:
    """Yield what was said in answer to the message before the latest, in order."""
    found: list[dict[str, Any]] = []
    messages = 0
    for event in reversed(tracker.events):
        if event["event"] == "user":
            messages += 1
            if messages == 2 and found:
                break
        elif event["event"] == "bot" and messages:
            found.append(event)
    yield from reversed(found)


def _since_last_message(tracker: Tracker) -> Iterator[dict[str, Any]]:
    for event in reversed(tracker.events):
        if event["event"] == "user":
            return
        yield event
