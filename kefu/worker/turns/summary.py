"""What a person should know who takes a conversation over: who asks, what for, what is known, what was said last.

In: a tracker, whose texts are masked. Out: the `summary` of HandoffStarted, masked once more and bounded.
"""

from itertools import islice
from typing import Any, Dict, Iterator, List, Optional

import orjson
from rasa.shared.constants import DEFAULT_NLU_FALLBACK_INTENT_NAME
from rasa.shared.core.constants import DEFAULT_SLOT_NAMES
from rasa.shared.core.events import ActionExecuted, AgentUttered, BotUttered, Event, UserUttered
from rasa.shared.core.trackers import DialogueStateTracker

from kefu.privacy import mask, mask_all
from kefu.worker.conversation.messages import is_external, last_said

TURNS, TEXT_CHARS = 8, 300
SLOTS, SLOT_BYTES = 20, 200
LOOKED_AT = 400  # events, for the last things said
_SPEAKERS = {UserUttered: "customer", BotUttered: "assistant", AgentUttered: "agent"}


def summary(tracker: DialogueStateTracker, task: Optional[str], channel: str) -> Dict[str, Any]:
    """Return the summary of a conversation up to now.

    Args:
        tracker: of the conversation.
        task: the form that was under way, None for none.
        channel: by which the customer writes.
    """
    heard, asked = last_said(tracker.events), _asked(tracker)
    slots = _slots(tracker)
    return {
        "identified": bool(heard and (heard.metadata or {}).get("identified") is True),
        "language": slots.get("language"),
        "channel": channel[:64],
        "asked": _cut(asked.text) if asked else "",
        "intent": asked.intent.get("name") if asked else None,
        "task": task,
        "slots": slots,
        "turns": _last_turns(tracker),
    }


def asked_by(events: List[Event]) -> str:
    """Return the last action of a turn that did something: the one that asked for a person."""
    made = (event.action_name for event in reversed(events) if type(event) is ActionExecuted)
    return next((name for name in made if name and name != "action_listen"), "")


def _asked(tracker: DialogueStateTracker) -> Optional[UserUttered]:
    """Return the customer's last message that tells what it is about: not the one that only asks for a person."""
    heard = [event for event in islice(reversed(tracker.events), LOOKED_AT) if type(event) is UserUttered]
    said = [event for event in heard if not is_external(event)]
    if not said or said[0].intent.get("name") == DEFAULT_NLU_FALLBACK_INTENT_NAME:
        return said[0] if said else None
    return next((event for event in said if event.intent.get("name") != said[0].intent.get("name")), said[0])


def _slots(tracker: DialogueStateTracker) -> Dict[str, Any]:
    """Return what was learned, by slot; Rasa's own slots tell a person nothing, nor do values that are too long."""
    found = {
        name: mask_all(slot.value)
        for name, slot in tracker.slots.items()
        if name not in DEFAULT_SLOT_NAMES and slot.value is not None and slot.value != slot.initial_value
    }
    short = ((name, value) for name, value in found.items() if len(orjson.dumps(value, default=str)) <= SLOT_BYTES)
    return dict(islice(short, SLOTS))


def _last_turns(tracker: DialogueStateTracker) -> List[Dict[str, Any]]:
    return list(islice(_said(tracker), TURNS))[::-1]


def _said(tracker: DialogueStateTracker) -> Iterator[Dict[str, Any]]:
    """Yield what was said, newest first."""
    for event in islice(reversed(tracker.events), LOOKED_AT):
        speaker = _SPEAKERS.get(type(event))
        if speaker and event.text and not (speaker == "customer" and is_external(event)):
            yield {"from": speaker, "text": _cut(event.text), "ts": round(event.timestamp * 1000)}


def _cut(text: Optional[str]) -> str:
    shown = mask(text or "")
    return shown if len(shown) <= TEXT_CHARS else shown[: TEXT_CHARS - 1] + "…"
