"""The record that a hand-over has begun: made of the turn's stored events, so that it can be made again."""

from typing import Iterator

import orjson

from kefu.codec import encode
from kefu.events import HandoffStarted, InboxEvent
from kefu.worker.conversation.handoffs import METADATA, WAITING

_PAUSE = b'"event":"pause"'  # as orjson writes it; within a text its quotes would be escaped


def handed_over(event: InboxEvent, events: bytes) -> Iterator[bytes]:
    """Yield the encoded HandoffStarted of a turn that handed the conversation over.

    Args:
        event: the cause of the turn.
        events: of the turn, encoded.
    """
    if _PAUSE not in events:
        return
    for each in orjson.loads(events):
        handoff = (each.get("metadata") or {}).get(METADATA) if each["event"] == "pause" else None
        if handoff and handoff["status"] == WAITING:
            started = HandoffStarted(
                event.tenant,
                event.user,
                handoff["id"],
                handoff["by"],
                handoff["summary"],
                ts=handoff["since"],
                traceparent=event.traceparent,
            )
            yield encode(started)
