"""The record that a hand-over has begun: made of the turn's stored events, so that it can be made again."""

from typing import Iterator

import orjson

from kefu.codec import encode
from kefu.events import HandoffStarted, InboxEvent
from kefu.worker.conversation.handoffs import METADATA, WAITING

_PAUSE = b'"event":"pause"'  # as orjson writes it; within a text its quotes would be escaped


def handed_over(said: InboxEvent, events: bytes) -> Iterator[bytes]:
    """Yield the encoded HandoffStarted of a turn that handed the conversation over.

    Args:
        said: the cause of the turn.
        events: of the turn, encoded.
    """
    if _PAUSE not in events:
        return
    for event in orjson.loads(events):
        handoff = (event.get("metadata") or {}).get(METADATA) if event["event"] == "pause" else None
        if handoff and handoff["status"] == WAITING:
            found = HandoffStarted(
                said.tenant,
                said.user,
                handoff["id"],
                handoff["by"],
                handoff["summary"],
                ts=handoff["since"],
                traceparent=said.traceparent,
            )
            yield encode(found)
