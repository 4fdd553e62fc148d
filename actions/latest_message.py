"""The latest message as a form reads it, with the question and the offer that came before it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rasa_sdk import Tracker
from rasa_sdk.forms import REQUESTED_SLOT

SURE = 0.7  # an intent with less confidence may be an answer in the customer's own words that resembles the intent
OFFER_OF_A_PERSON = "utter_offer_person"  # the response that offers to hand over to a person
Entities = list[dict[str, Any]]


@dataclass(frozen=True)
class LatestMessage:
    """The latest message, and the state of the form that reads it.

    Attributes:
        is_sure: whether NLU's confidence in the intent is at least SURE.
        asked: the slot that the form asked for; None if the form opens with this message.
        opens: whether the form begins with this message.
        returns: whether another action answered the message, so that the form only repeats its question.
        to_offer: whether a typed yes or no may answer the offer of a person that was just made.
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
    def of(cls, form: str, tracker: Tracker) -> "LatestMessage":
        """Return the latest message of a tracker, as the form of this name reads it."""
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
            # A button's payload (`/affirm`) doesn't count, because a button itself names the question that it answers.
            not text.startswith("/") and is_person_offered(tracker),
        )

    def is_mostly(self, kinds: frozenset[str]) -> bool:
        """Return whether entities of these kinds are at least half of the text, whatever its intent is."""
        spans = [each.get("end", 0) - each.get("start", 0) for each in self.entities if each["entity"] in kinds]
        return 0 < len(self.text) <= 2 * sum(spans)


def is_person_offered(tracker: Tracker) -> bool:
    """Return whether the replies to the previous message offered to hand over to a person."""
    return any(
        (reply.get("metadata") or {}).get("utter_action") == OFFER_OF_A_PERSON for reply in last_replies(tracker)
    )


def last_replies(tracker: Tracker) -> Iterator[dict[str, Any]]:
    """Yield the assistant's replies to the previous message (the one before the latest), in order."""
    replies: list[dict[str, Any]] = []
    messages = 0
    for event in reversed(tracker.events):
        if event["event"] == "user":
            messages += 1
            if messages == 2 and replies:
                break
        elif event["event"] == "bot" and messages:
            replies.append(event)
    yield from reversed(replies)


def _since_last_message(tracker: Tracker) -> Iterator[dict[str, Any]]:
    for event in reversed(tracker.events):
        if event["event"] == "user":
            return
        yield event
