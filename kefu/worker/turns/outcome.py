"""A turn's outcome: the write that stores it, and the records that publish it."""

from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional, Sequence

from orjson import Fragment
from rasa.shared.core.events import ActionExecuted, AgentUttered, BotUttered, Event

from kefu.codec import encode
from kefu.events import AnswerGenerated, InboxEvent, TurnEvents, now_ms
from kefu.worker.conversation.events import as_stored
from kefu.worker.conversation.stored import Arm, TurnWrite
from kefu.worker.turns.live import TURNS_KEPT, LiveConversation
from kefu.worker.turns.turn import Turn

_REPLIES = (BotUttered, AgentUttered)  # the events whose text the customer receives


@dataclass
class Outcome:
    """A turn that has run and is not stored yet.

    Attributes:
        live: the conversation with the turn's events on its tracker.
        write: the write that stores the turn.
        answer: the record that publishes the replies; its encoded form is the marker.
        snapshot: the events that replace trimmed turns; None if nothing is trimmed.
        events: the events that the turn added to the tracker.
    """

    live: LiveConversation
    write: TurnWrite
    answer: AnswerGenerated
    snapshot: Optional[List[Event]] = None
    events: List[Event] = field(default_factory=list)


def of_turn(turn: Turn, events: List[Event], arms: Sequence[Arm]) -> Outcome:
    """Return the outcome of a turn.

    Args:
        turn: the finished turn.
        events: the events that it added to the tracker.
        arms: the timers that it armed.
    """
    live, event, processor, ts = turn.live, turn.event, turn.processor, now_ms()
    uttered = [each for each in events if type(each) in _REPLIES]
    replies = [reply_of(reply, live.seq + n, event.message_id, ts) for n, reply in enumerate(uttered, 1)]
    intent = turn.parse_data.get("intent", {})
    answer = _answer(
        live,
        event,
        processor.model_metadata.model_id,
        replies,
        events=len(events),
        intent=intent.get("name"),
        confidence=intent.get("confidence"),
        actions=[each.action_name for each in events if type(each) is ActionExecuted and each.action_name],
        stages_ms={stage: round(ms, 2) for stage, ms in turn.stages_ms.items()},
        ts=ts,
    )
    seq, listed = live.seq + len(replies), live.tracker.is_paused()
    stored, marker = as_stored(events), encode(answer)
    write = TurnWrite(event.message_id, live.version, seq, stored, marker, replies, arms=tuple(arms), listed=listed)
    snapshot = live.snapshot_if_due(processor.view, len(events))
    if snapshot is not None:
        write = replace(write, snapshot=as_stored(snapshot), keep=TURNS_KEPT)
    return Outcome(live, write, answer, snapshot, events)


def marked(
    live: LiveConversation, event: InboxEvent, model_id: str, arms: Sequence[Arm] = (), **fields: Any
) -> Outcome:
    """Return the outcome of an event that doesn't change the conversation: a marker, without events and replies.

    Args:
        live: the conversation.
        event: of the inbox.
        model_id: of the model that serves.
        arms: the timers to look at again.
        **fields: of AnswerGenerated; without a `status` it is `answered`.
    """
    answer = _answer(live, event, model_id, **fields)
    return Outcome(
        live, TurnWrite(event.message_id, live.version, live.seq, [], encode(answer), [], arms=tuple(arms)), answer
    )


def _answer(
    live: LiveConversation, event: InboxEvent, model_id: str, replies: Sequence[Dict[str, Any]] = (), **fields: Any
) -> AnswerGenerated:
    return AnswerGenerated(
        event.tenant,
        event.user,
        event.message_id,
        cause=event.id,
        tracker_version=live.version + 1,
        seq=live.seq + len(replies),
        replies=list(replies),
        model_id=model_id,
        traceparent=event.traceparent,
        **fields,
    )


def turn_events(event: InboxEvent, version: int, encoded: bytes) -> bytes:
    """Return the encoded TurnEvents record of a turn, whose events are JSON already."""
    events: Any = Fragment(encoded)  # orjson writes it unchanged: the JSON of a list
    return encode(TurnEvents(event.tenant, event.user, event.id, version, events, traceparent=event.traceparent))


def reply_of(uttered: Event, seq: int, message_id: str, ts: int) -> Dict[str, Any]:
    """Return a bot's or an agent's event as a reply in the form that DESIGN.md defines; empty parts are left out."""
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
