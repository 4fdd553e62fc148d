"""The events that cross Kafka: frozen dataclasses, their ids and their topics; `kefu.codec` makes JSON of them.

Every process imports this module, under both interpreters. `kefu/schemas/` has one JSON Schema for each type;
`tests/contract` compares it with the dataclass.
"""

import hashlib
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Union, final

VERSION = 1  # `v` of every event; a record with another version is not read
USER_QUERY = "user.query"
CANDIDATE_QUERY = "user.query.candidate"
DEAD_LETTERS = "user.query.dlq"
DIALOGUE_EVENTS = "dialogue.events"
ANSWERS = "answer.generated"
LOOKUPS = "lookup.request"
AUDIT = "audit"

DAY_MS = 24 * 3600 * 1000
# Topic to retention time in ms. Source: DESIGN.md, Kafka.
TOPICS: Dict[str, int] = {
    USER_QUERY: 3 * DAY_MS,
    CANDIDATE_QUERY: DAY_MS,  # copies of messages that also wait in user.query, see kefu.worker.release
    DEAD_LETTERS: 30 * DAY_MS,
    DIALOGUE_EVENTS: 7 * DAY_MS,
    ANSWERS: 7 * DAY_MS,
    LOOKUPS: 3 * DAY_MS,
    AUDIT: 365 * DAY_MS,
}

IDENTIFIER = re.compile(r"[A-Za-z0-9_.@-]{1,128}")
MESSAGE_ID = re.compile(r"[A-Za-z0-9_.@:-]{1,128}")
CHANNELS = ("rest", "web")  # `rest` for programs, `web` for the chat page; responses may differ by it (`channel:`)
GUEST_PREFIX = "guest-"  # starts the ids of guests; the gateway refuses such an id for a known customer
_NAMESPACE = uuid.UUID("5b0f6ad4-0d5b-4f8e-9d0a-6b6566752e31").bytes
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def derived_id(*parts: object) -> str:
    """Return a deterministic id (32 hex digits) made of `parts`: a UUID of version 5.

    Doesn't use `uuid.uuid5`, which takes twice as long for the same digits. Source: RFC 9562, 5.5.
    """
    name = "\x1f".join(map(str, parts)).encode()
    digest = hashlib.sha1(_NAMESPACE + name, usedforsecurity=False).hexdigest()
    return f"{digest[:12]}5{digest[13:16]}{_VARIANT[digest[16]]}{digest[17:32]}"


def now_ms() -> int:
    """Return the wall clock in ms since the epoch."""
    return time.time_ns() // 1_000_000


def conversation_key(tenant: str, user: str) -> str:
    """Return `tenant:user`: the Kafka key, the Redis hash tag and Rasa's sender id."""
    return f"{tenant}:{user}"


@final
@dataclass(frozen=True)
class UserSaid:
    """A customer's message that the gateway accepted: a text, or the payload of a button. Exactly one of them is set.

    `text` is masked: personal data is replaced by a mask (`sealed` will hold the ciphertexts). `identified` says
    whether the shop vouched for the customer's id; `channel` is one of CHANNELS.
    """

    tenant: str
    user: str
    message_id: str
    text: Optional[str] = None
    payload: Optional[str] = None
    identified: bool = False
    channel: str = "rest"
    metadata: Dict[str, Any] = field(default_factory=dict)
    sealed: Dict[str, str] = field(default_factory=dict)
    id: str = ""
    ts: int = field(default_factory=now_ms)
    traceparent: str = ""
    v: int = VERSION
    type: str = "UserSaid"

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", derived_id("UserSaid", self.tenant, self.user, self.message_id))

    @property
    def conversation(self) -> str:
        """The key of the conversation, `tenant:user`."""
        return conversation_key(self.tenant, self.user)


class _OwnCause:
    """Base of the inbox events that aren't customers' messages. Such an event's own id serves as the message id."""

    @property
    def conversation(self) -> str:
        """The key of the conversation, `tenant:user`."""
        return conversation_key(self.tenant, self.user)  # type: ignore[attr-defined]

    @property
    def message_id(self) -> str:
        """The id that the marker and the replies carry: the event's own."""
        return self.id  # type: ignore[attr-defined]


@final
@dataclass(frozen=True)
class ReminderDue(_OwnCause):
    """A reminder that an action has scheduled is due. `due` is its time, `ts` when a worker saw that; both in ms.

    The id depends on the reminder and its time, so a reminder that is found due twice gives the same event.
    """

    tenant: str
    user: str
    name: str
    due: int
    id: str = ""
    ts: int = field(default_factory=now_ms)
    traceparent: str = ""
    v: int = VERSION
    type: str = "ReminderDue"

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", derived_id("ReminderDue", self.tenant, self.user, self.name, self.due))


@final
@dataclass(frozen=True)
class SessionIdled(_OwnCause):
    """A customer has been silent until `due`. `ts` is when a worker saw that; both in ms."""

    tenant: str
    user: str
    due: int
    id: str = ""
    ts: int = field(default_factory=now_ms)
    traceparent: str = ""
    v: int = VERSION
    type: str = "SessionIdled"

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", derived_id("SessionIdled", self.tenant, self.user, self.due))


@final
@dataclass(frozen=True)
class HandoffStarted(_OwnCause):
    """A conversation waits for a person. The worker that paused the assistant records it; `id` names the hand-over.

    `by` is the action that asked for a person, `summary` the masked summary for that person (see its schema). The event
    is in the inbox for other consumers of `user.query`: the worker itself does nothing with it.
    """

    tenant: str
    user: str
    id: str
    by: str
    summary: Dict[str, Any]
    ts: int = field(default_factory=now_ms)
    traceparent: str = ""
    v: int = VERSION
    type: str = "HandoffStarted"


@final
@dataclass(frozen=True)
class HandoffTaken(_OwnCause):
    """The person `agent` at the desk asks for the hand-over `handoff`. The first to ask gets it.

    The `id` of every desk event derives from the agent and the id of the request.
    """

    tenant: str
    user: str
    id: str
    handoff: str
    agent: str
    ts: int = field(default_factory=now_ms)
    traceparent: str = ""
    v: int = VERSION
    type: str = "HandoffTaken"


@final
@dataclass(frozen=True)
class AgentSaid(_OwnCause):
    """A masked message to the customer from the person who has the hand-over. `name` is shown to the customer."""

    tenant: str
    user: str
    id: str
    handoff: str
    agent: str
    text: str
    name: str = ""
    ts: int = field(default_factory=now_ms)
    traceparent: str = ""
    v: int = VERSION
    type: str = "AgentSaid"


@final
@dataclass(frozen=True)
class HandoffEnded(_OwnCause):
    """The person gives the conversation back to the assistant."""

    tenant: str
    user: str
    id: str
    handoff: str
    agent: str
    ts: int = field(default_factory=now_ms)
    traceparent: str = ""
    v: int = VERSION
    type: str = "HandoffEnded"


@dataclass(frozen=True)
class AnswerGenerated:
    """The outcome of one inbox event; also the marker that it has been processed.

    `message_id` is the customer's message id, or the id of the timer's or desk's event that caused the turn.
    `status` is `answered`, `failed` (`reason` is then a stable class) or, for a desk event only, `refused` (`reason`
    then says why). `replies` have the form of DESIGN.md, with their sequence numbers; an empty list means answered
    without replies. `seq` is the conversation's last sequence number after this turn, `events` the number of tracker
    events of the turn. Both are needed to write the turn again if Redis has lost it.
    """

    tenant: str
    user: str
    message_id: str
    cause: str
    tracker_version: int
    status: str = "answered"
    reason: Optional[str] = None
    replies: List[Dict[str, Any]] = field(default_factory=list)
    intent: Optional[str] = None
    confidence: Optional[float] = None
    actions: List[str] = field(default_factory=list)
    stages_ms: Dict[str, float] = field(default_factory=dict)
    model_id: str = ""
    seq: int = 0
    events: int = 0
    id: str = ""
    ts: int = field(default_factory=now_ms)
    traceparent: str = ""
    v: int = VERSION
    type: str = "AnswerGenerated"

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", derived_id("AnswerGenerated", self.cause))


@dataclass(frozen=True)
class TurnEvents:
    """The events that one turn put on Rasa's tracker, in order. `tracker_version` orders the turns."""

    tenant: str
    user: str
    cause: str
    tracker_version: int
    events: List[Dict[str, Any]]
    id: str = ""
    ts: int = field(default_factory=now_ms)
    traceparent: str = ""
    v: int = VERSION
    type: str = "TurnEvents"

    def __post_init__(self) -> None:
        if not self.id:
            object.__setattr__(self, "id", derived_id("TurnEvents", self.cause))


@dataclass(frozen=True)
class DeadLetterHandled:
    """The handling of a dead letter by an operator: a record of `user.query.dlq`, in the letter's own partition.

    `letter` is the letter's id (see `kefu.tools.dlq.letters`). `outcome` is `replaying` before the replay is sent,
    `replayed` once Kafka has it, or `dropped`; `message_id` is that of the replayed message.
    """

    tenant: str
    user: str
    letter: str
    outcome: str
    actor: str
    attempt: int = 0
    message_id: Optional[str] = None
    note: str = ""
    id: str = ""
    ts: int = field(default_factory=now_ms)
    traceparent: str = ""
    v: int = VERSION
    type: str = "DeadLetterHandled"

    def __post_init__(self) -> None:
        if not self.id:
            parts = ("DeadLetterHandled", self.letter, self.outcome, self.attempt)
            object.__setattr__(self, "id", derived_id(*parts))


@dataclass(frozen=True)
class AuditEntry:
    """An audit record: `actor` did `action` to `subject` in a conversation; `details` say how.

    A writer that may write the same entry twice sets a derived `id`.
    """

    tenant: str
    user: str
    actor: str
    action: str
    subject: str
    details: Dict[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    ts: int = field(default_factory=now_ms)
    traceparent: str = ""
    v: int = VERSION
    type: str = "AuditEntry"


TimerDue = Union[ReminderDue, SessionIdled]
DeskEvent = Union[HandoffTaken, AgentSaid, HandoffEnded]
# The events that the inbox handles.
InboxEvent = Union[UserSaid, ReminderDue, SessionIdled, HandoffStarted, HandoffTaken, AgentSaid, HandoffEnded]
DESK_KINDS = (HandoffTaken, AgentSaid, HandoffEnded)
INBOX_KINDS = (UserSaid, ReminderDue, SessionIdled, HandoffStarted, *DESK_KINDS)
_KINDS = (*INBOX_KINDS, AnswerGenerated, TurnEvents, DeadLetterHandled, AuditEntry)
TYPES: Dict[str, type] = {kind.__name__: kind for kind in _KINDS}
