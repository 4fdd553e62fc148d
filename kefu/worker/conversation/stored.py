"""The form of a conversation in Redis: the state that is read, and the single write that stores a turn.

Events are plain dicts here, so that a command that reads the store imports no Rasa.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import orjson

from kefu.keys import REPLIES_KEPT
from kefu.settings import CONVERSATION_LIFETIME_S, MARKER_LIFETIME_S

_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS  # Rasa's events hold numpy's floats
METADATA = "handoff"  # key of the hand-over in the metadata of a pause or resume, see `conversation.handoffs`
WAITING, TAKEN = "waiting", "taken"  # status of a hand-over


@dataclass(frozen=True)
class Stored:
    """A conversation's state in Redis; empty for a new conversation.

    Attributes:
        version: grows by one with each write.
        seq: sequence number of the last reply.
        snapshot: events (Rasa's dicts) that stand for the trimmed turns.
        turns: the events of each kept turn, oldest first.
        history: the replication id of the server that was read; it changes with a failover or a restart. Source:
            Redis, INFO, master_replid.
    """

    version: int = 0
    seq: int = 0
    snapshot: List[Dict[str, Any]] = field(default_factory=list)
    turns: List[List[Dict[str, Any]]] = field(default_factory=list)
    history: str = ""


class Arm(NamedTuple):
    """A timer that a turn arms, as an entry in the index of the conversation's partition; `due` is in ms."""

    partition: int
    member: str
    due: int


@dataclass(frozen=True)
class TurnWrite:
    """One prepared atomic write. It is kept until it has surely succeeded, and sent again unchanged.

    Attributes:
        version: the stored version that the turn was computed from.
        events: the turn's new events; an empty list stores no turn, only the marker (a dead letter's, for example).
        marker: the encoded AnswerGenerated.
        replies: with their sequence numbers, ascending.
        snapshot: events that replace all but the last `keep` turns before this one; None trims nothing.
        arms: timers, all of one partition; they are put into the index before the turn is stored.
        listed: whether a hand-over stands after the turn; it is put into the desk's index before the turn is stored.
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
        """The events as JSON, in the form that is both stored and published."""
        return encode_events(self.events)

    @cached_property
    def arguments(self) -> List[Any]:
        """The ARGV of the script `WRITE`."""
        record = b'{"v":%d,"events":%b}' % (self.version + 1, self.encoded_events) if self.events else b""
        snapshot = b"" if self.snapshot is None else orjson.dumps(self.snapshot, option=_JSON)
        fixed = [self.version, record, self.marker, self.message_id, self.seq, snapshot, self.keep]
        limits = [CONVERSATION_LIFETIME_S, MARKER_LIFETIME_S, REPLIES_KEPT, handoff_change(self.events)]
        replies = [part for reply in self.replies for part in (reply["seq"], orjson.dumps(reply, option=_JSON))]
        return fixed + limits + replies

    def kept(self) -> "KeptWrite":
        """Return this write without the parts that sending it again doesn't need. It takes a tenth of the memory."""
        # orjson's results have up to 16 kB of unused room behind them; a copy has none.
        exact = [bytes(memoryview(part)) if type(part) is bytes else part for part in self.arguments]
        return KeptWrite(self.message_id, self.version, exact, self.arms, self.listed)


class KeptWrite(NamedTuple):
    """A successful write, kept in memory in case Redis loses it. The attributes are those of TurnWrite."""

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
    """Return events (Rasa's dicts) as JSON."""
    return orjson.dumps(events, option=_JSON)


def handoff_change(events: List[Dict[str, Any]]) -> bytes:
    """Return how a turn changes the hand-over that the desk reads: its JSON, `-` if it ended, empty if unchanged.

    The change is read from the events, so that a turn that is written again (see `mending`) makes the same change.

    Args:
        events: of the turn, as stored.
    """
    for event in reversed(events):
        kind = event.get("event")
        if kind == "pause":
            handoff = (event.get("metadata") or {}).get(METADATA)
            return orjson.dumps(handoff) if handoff else b""
        if kind in ("resume", "restart"):
            return b"-"
    return b""
