"""The summary for an agent who takes a conversation over: the customer, the request, the slots, the last turns.

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

TURNS, TEXT_CHARS = 8, 300  # a summary has the last 8 messages; the rest of a longer text is cut off
SLOTS, SLOT_BYTES = 20, 200  # a summary has at most 20 slots; a slot with a larger value is left out
LOOKED_AT = 400  # how many of the last events are searched for messages
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
    """Return the turn's last action that isn't `action_listen`: the action that asked for a person."""
    made = (event.action_name for event in reversed(events) if type(event) is ActionExecuted)
    return next((name for name in made if name and name != "action_listen"), "")


def _asked(tracker: DialogueStateTracker) -> Optional[UserUttered]:
    """Return the message with the customer's request.

    The customer's last message may only ask for a person. So this is the last message with another intent than that
    one. If there is none, or if NLU did not understand the customer's last message, it is the customer's last message.
    """
    latest = [event for event in islice(reversed(tracker.events), LOOKED_AT) if type(event) is UserUttered]
    messages = [event for event in latest if not is_external(event)]
    if not messages or messages[0].intent.get("name") == DEFAULT_NLU_FALLBACK_INTENT_NAME:
        return messages[0] if messages else None
    last_intent = messages[0].intent.get("name")
    return next((event for event in messages if event.intent.get("name") != last_intent), messages[0])


def _slots(tracker: DialogueStateTracker) -> Dict[str, Any]:
    """Return the slots that were set, without Rasa's own ones and without values above SLOT_BYTES."""
    filled = {
        name: mask_all(slot.value)
        for name, slot in tracker.slots.items()
        if name not in DEFAULT_SLOT_NAMES and slot.value is not None and slot.value != slot.initial_value
    }
    short = ((name, value) for name, value in filled.items() if len(orjson.dumps(value, default=str)) <= SLOT_BYTES)
    return dict(islice(short, SLOTS))


def _last_turns(tracker: DialogueStateTracker) -> List[Dict[str, Any]]:
    return list(islice(_messages(tracker), TURNS))[::-1]


def _messages(tracker: DialogueStateTracker) -> Iterator[Dict[str, Any]]:
    """Yield the messages of customer, assistant and agent, newest first."""
    for event in islice(reversed(tracker.events), LOOKED_AT):
        speaker = _SPEAKERS.get(type(event))
        if speaker and event.text and not (speaker == "customer" and is_external(event)):
            yield {"from": speaker, "text": _cut(event.text), "ts": round(event.timestamp * 1000)}


def _cut(text: Optional[str]) -> str:
    shown = mask(text or "")
    return shown if len(shown) <= TEXT_CHARS else shown[: TEXT_CHARS - 1] + "…"
