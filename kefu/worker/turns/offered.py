"""Checks a customer's input: a button counts only if a reply offered it, and a text is never a command to Rasa."""

from typing import Iterable, List

from rasa.shared.core.events import BotUttered, Event, UserUttered

from kefu.worker.turns.live import LiveConversation

YES_OR_NO = frozenset({"/affirm", "/deny"})


def neutral(text: str) -> str:
    """Return `text` with a leading `/` made full-width, so that Rasa sees no command in it.

    The length stays the same, so the positions of entities stay valid. Rasa skips leading white space before it looks
    for `/`, so this function does too.
    """
    start = len(text) - len(text.lstrip())
    return text[:start] + "／" + text[start + 1 :] if text[start : start + 1] == "/" else text


def was_offered(live: LiveConversation, payload: str) -> bool:
    """Return whether a reply of this conversation had a button with this payload.

    A yes or no counts only if the last replies offered it. An older yes or no button belongs to an earlier question.
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
    """Return the replies to the customer's last message; if it had none yet, those to the last message with replies."""
    replies: List[BotUttered] = []
    for event in reversed(live.tracker.events):
        if type(event) is BotUttered:
            replies.append(event)
        elif type(event) is UserUttered and replies:
            break
    return replies
