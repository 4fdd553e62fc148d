"""What a turn comes to: the write that stores it, and the records that are published of it."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from orjson import Fragment
from rasa.shared.core.events import Event

from kefu.codec import encode
from kefu.events import AnswerGenerated, InboxEvent, TurnEvents
from kefu.worker.conversation.events import as_stored
from kefu.worker.conversation.stored import TurnWrite
from kefu.worker.turns.live import LiveConversation


@dataclass
class Outcome:
    """A turn that has been run and not yet stored."""

    live: LiveConversation
    write: TurnWrite
    answer: AnswerGenerated
    snapshot: Optional[List[Event]] = None
    events: List[Event] = field(default_factory=list)


def turn_events(event: InboxEvent, version: int, encoded: bytes) -> bytes:
    """Return the record of a turn's events, which are JSON already."""
    return encode(
        TurnEvents(event.tenant, event.user, event.id, version, Fragment(encoded), traceparent=event.traceparent)
    )


def reply_of(uttered: Event, seq: int, message_id: str, ts: int) -> Dict[str, Any]:
    """Return a reply as DESIGN.md has it; empty parts are left out."""
    stored = as_stored([uttered])[0]
    data = stored["data"] or {}
    reply: Dict[str, Any] = {"seq": seq, "message_id": message_id, "ts": ts}
    if stored.get("text"):
        reply["text"] = stored["text"]
    buttons = [{"title": b.get("title", ""), "payload": b.get("payload", "")} for b in data.get("buttons") or []]
    buttons += [{"title": b.get("title", ""), "payload": b.get("payload", "")} for b in data.get("quick_replies") or []]
    if buttons:
        reply["buttons"] = buttons
    for name in ("image", "attachment", "custom"):
        if data.get(name):
            reply[name] = data[name]
    return reply
