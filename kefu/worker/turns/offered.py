"""What a customer may choose: buttons that a reply offered, and words that are no command to Rasa."""

from typing import Iterable, List

from rasa.shared.core.events import BotUttered, Event, UserUttered

from kefu.worker.turns.live import LiveConversation

YES_OR_NO = frozenset({"/affirm", "/deny"})


def neutral(text: str) -> str:
    """Return `text` so that Rasa sees no command in it: a leading `/` becomes a full-width one.

    The length stays the same, so the positions of entities hold. Rasa looks for `/` after white
    space, so that is where it is looked for here.
    """
    start = len(text) - len(text.lstrip())
    return text[:start] + "／" + text[start + 1 :] if text[start : start + 1] == "/" else text


def was_offered(live: LiveConversation, payload: str) -> bool:
    """Return whether a reply of this conversation had a button with this payload.

    A yes or no answers the question that it stood under: only the last replies offer it, for by now
    an older button would answer another question.
    """
    replies = _last_replies(live) if payload in YES_OR_NO else _replies_of(live.tracker.events)
    return any(
        button.get("payload") == payload
        for event in replies
        for button in [*(event.data.get("buttons") or []), *(event.data.get("quick_replies") or [])]
    )


def _replies_of(events: Iterable[Event]) -> List[BotUttered]:
    return [event for event in events if type(event) is BotUttered]


def _last_replies(live: LiveConversation) -> List[BotUttered]:
    """Return what was said since the latest message that was answered."""
    found: List[BotUttered] = []
    for event in reversed(live.tracker.events):
        if type(event) is BotUttered:
            found.append(event)
        elif type(event) is UserUttered and found:
            break
    return found
