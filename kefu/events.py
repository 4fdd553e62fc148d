"""What crosses Kafka: frozen dataclasses, their ids and their topics; `kefu.codec` makes JSON of them.

Imported by every process, under both interpreters. One JSON Schema a type lies in
`kefu/schemas/`; `tests/contract` holds dataclass and schema together.
"""

import hashlib
import re
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Union, final

VERSION = 1
USER_QUERY = "user.query"
CANDIDATE_QUERY = "user.query.candidate"
DEAD_LETTERS = "user.query.dlq"
DIALOGUE_EVENTS = "dialogue.events"
ANSWERS = "answer.generated"
LOOKUPS = "lookup.request"
AUDIT = "audit"

DAY_MS = 24 * 3600 * 1000
# Topic to how long it is kept, in ms. Source: DESIGN.md, Kafka.
TOPICS: Dict[str, int] = {
    USER_QUERY: 3 * DAY_MS,
    CANDIDATE_QUERY: DAY_MS,  # copies of what waits in user.query meanwhile, see kefu.worker.release
    DEAD_LETTERS: 30 * DAY_MS,
    DIALOGUE_EVENTS: 7 * DAY_MS,
    ANSWERS: 7 * DAY_MS,
    LOOKUPS: 3 * DAY_MS,
    AUDIT: 365 * DAY_MS,
}

IDENTIFIER = re.compile(r"[A-Za-z0-9_.@-]{1,128}")
MESSAGE_ID = re.compile(r"[A-Za-z0-9_.@:-]{1,128}")
CHANNELS = ("rest", "web")  # what a message may come by: a program, the chat page; answers may differ (`channel:`)
GUEST_PREFIX = "guest-"  # no known customer may have such an id; the gateway refuses it
_NAMESPACE = uuid.UUID("5b0f6ad4-0d5b-4f8e-9d0a-6b6566752e31").bytes
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


def derived_id(*parts: object) -> str:
    """Return the deterministic id (32 hex digits) of what follows from `parts`: a UUID of version 5.

    Without `uuid.uuid5`, which takes twice as long for the same digits. Source: RFC 9562, 5.5.
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
    """A customer's message, as accepted. Exactly one of `text` and `payload` is set.

    `text` is masked: what is personal in it exists as a mask only (`sealed` will hold the
    ciphertexts). `identified` says whether the token vouched for a known customer; `channel` is one of CHANNELS.
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
    """What an event that no customer sent is for the inbox: the cause of its own turn."""

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
    """A reminder that an action has scheduled is due. `due` is its time, `ts` when this was seen; both in ms.

    The same reminder, due at the same time, has the same id, however often it is found due.
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
    """A customer has been silent until `due`. `ts` is when this was seen; both in ms."""

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

    `by` is the action that asked for a person, `summary` what the person should know, masked (see its schema).
    In the inbox it is there for who else wants to know: the worker itself has nothing more to do with it.
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
    """A person at the desk, `agent`, wants to have the hand-over `handoff`. The first one gets it.

    Of this and of all that the desk sends, the `id` derives from the agent and the id that the request had.
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
    """What the person who has the hand-over says to the customer, masked. `name` is how the person is called there."""

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

    `message_id` is the customer's, or the id of the event of a timer or the desk that caused the turn.
    `status` is `answered`, `failed` (then `reason` is a stable class), or, for what the desk asked and can't have,
    `refused` (then `reason` says why). `replies` are those of
    DESIGN.md, with their sequence numbers; an empty list means answered without replies.
    `seq` is the conversation's last sequence number after this turn, `events` how many
    `DialogueEvent`s belong to it: by these a store that lost the turn is mended.
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
    """The events that a turn put on Rasa's tracker, in order; turns are in the order of `tracker_version`."""

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
    """What an operator did with a dead letter: a record of `user.query.dlq`, in the letter's own partition.

    `letter` is the letter's id (see `kefu.tools.dlq.letters`). `outcome` is `replaying` before the replay
    is sent, `replayed` when Kafka has it, or `dropped`; `message_id` is the replay's.
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
    """Who did what to whose conversation. `subject` names what it was done to, `details` say how.

    Whoever may write the same entry twice gives it a derived `id`.
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
# What the inbox handles.
InboxEvent = Union[UserSaid, ReminderDue, SessionIdled, HandoffStarted, HandoffTaken, AgentSaid, HandoffEnded]
DESK_KINDS = (HandoffTaken, AgentSaid, HandoffEnded)
INBOX_KINDS = (UserSaid, ReminderDue, SessionIdled, HandoffStarted, *DESK_KINDS)
_KINDS = (*INBOX_KINDS, AnswerGenerated, TurnEvents, DeadLetterHandled, AuditEntry)
TYPES: Dict[str, type] = {kind.__name__: kind for kind in _KINDS}
