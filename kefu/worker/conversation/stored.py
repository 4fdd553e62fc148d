"""What a conversation is in Redis: what is read of it, and the one write that a turn becomes.

Events are plain dicts here, so that a command that reads the store imports no Rasa.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import orjson

from kefu.keys import REPLIES_KEPT
from kefu.settings import CONVERSATION_LIFETIME_S, MARKER_LIFETIME_S

_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS  # Rasa's events hold numpy's floats
METADATA = "handoff"  # in the metadata of a pause or resume: the hand-over, see `conversation.handoffs`
WAITING, TAKEN = "waiting", "taken"  # status of a hand-over


@dataclass(frozen=True)
class Stored:
    """What Redis holds of a conversation; all empty for one never seen.

    Attributes:
        version: one more with each write.
        seq: sequence number of the last reply.
        snapshot: events (Rasa's dicts) that stand for the turns trimmed away.
        turns: the events of each turn kept, oldest first.
        history: of the server that was asked, another one after a failover or a restart. Source: Redis, INFO,
            master_replid.
    """

    version: int = 0
    seq: int = 0
    snapshot: List[Dict[str, Any]] = field(default_factory=list)
    turns: List[List[Dict[str, Any]]] = field(default_factory=list)
    history: str = ""


class Arm(NamedTuple):
    """A timer that a turn leaves behind: its entry in the index of the conversation's partition, due in ms."""

    partition: int
    member: str
    due: int


@dataclass(frozen=True)
class TurnWrite:
    """One atomic write, prepared: kept until it is sure, sent again as it is.

    Attributes:
        version: that the turn was computed from.
        events: the turn's new events; an empty list stores no turn (a dead letter's marker).
        marker: the encoded AnswerGenerated.
        replies: with their sequence numbers, ascending.
        snapshot: stands for all but the last `keep` turns before this one; None trims nothing.
        arms: timers, all of one partition; they reach the index before the turn is stored.
        listed: whether a person has the conversation or shall have it; it reaches the desk's index before, too.
    """

    message_id: str
    version: int
    seq: int
    events: List[Dict[str, Any]]
    marker: bytes
    replies: List[Dict[str, Any]]
    snapshot: Optional[List[Dict[str, Any]]] = None
    keep: int = 0
    arms: Sequence[Arm] = ()
    listed: bool = False

    @cached_property
    def encoded_events(self) -> bytes:
        """The events as JSON: they are stored, and published, as they are here."""
        return encode_events(self.events)

    @cached_property
    def arguments(self) -> List[Any]:
        """The script's ARGV."""
        record = b'{"v":%d,"events":%b}' % (self.version + 1, self.encoded_events) if self.events else b""
        snapshot = b"" if self.snapshot is None else orjson.dumps(self.snapshot, option=_JSON)
        fixed = [self.version, record, self.marker, self.message_id, self.seq, snapshot, self.keep]
        limits = [CONVERSATION_LIFETIME_S, MARKER_LIFETIME_S, REPLIES_KEPT, left_by(self.events)]
        replies = [part for reply in self.replies for part in (reply["seq"], orjson.dumps(reply, option=_JSON))]
        return fixed + limits + replies

    def kept(self) -> "KeptWrite":
        """Return what it takes to send this write again, in a tenth of the memory."""
        # orjson leaves up to 16 kB of room behind what it returns; a copy has none.
        exact = [bytes(memoryview(part)) if type(part) is bytes else part for part in self.arguments]
        return KeptWrite(self.message_id, self.version, exact, self.arms, self.listed)


class KeptWrite(NamedTuple):
    """A write that succeeded, for a store that loses it; the names are TurnWrite's."""

    message_id: str
    version: int
    arguments: List[Any]
    arms: Sequence[Arm]
    listed: bool

    @property
    def marker(self) -> bytes:
        """The encoded AnswerGenerated."""
        return self.arguments[2]


def encode_events(events: List[Dict[str, Any]]) -> bytes:
    """Return events, as Rasa's dicts, in JSON."""
    return orjson.dumps(events, option=_JSON)


def left_by(events: List[Dict[str, Any]]) -> bytes:
    """Return what a turn leaves for the desk to read: JSON, `-` for nothing any more, empty for as it was.

    The store takes it from the events, so that a turn that is written again (see `mending`) tells the same.

    Args:
        events: of the turn, as stored.
    """
    for event in reversed(events):
        kind = event.get("event")
        if kind == "pause":
            found = (event.get("metadata") or {}).get(METADATA)
            return orjson.dumps(found) if found else b""
        if kind in ("resume", "restart"):
            return b"-"
    return b""
