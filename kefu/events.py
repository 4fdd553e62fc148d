"""What crosses Kafka: frozen dataclasses, their JSON, their ids and their topics.

Imported by every process, under both interpreters. One JSON Schema a type lies in
`kefu/schemas/`; `tests/contract` holds dataclass and schema together.
"""

import hashlib
import re
import time
import uuid
from dataclasses import dataclass, field, fields
from typing import Any, Dict, List, Optional, Tuple, Type, TypeVar, Union

import orjson

from kefu.errors import PoisonMessage

VERSION = 1
USER_QUERY = "user.query"
DEAD_LETTERS = "user.query.dlq"
DIALOGUE_EVENTS = "dialogue.events"
ANSWERS = "answer.generated"
LOOKUPS = "lookup.request"
AUDIT = "audit"

DAY_MS = 24 * 3600 * 1000
# Topic to how long it is kept, in ms. Source: DESIGN.md, Kafka.
TOPICS: Dict[str, int] = {
    USER_QUERY: 3 * DAY_MS,
    DEAD_LETTERS: 30 * DAY_MS,
    DIALOGUE_EVENTS: 7 * DAY_MS,
    ANSWERS: 7 * DAY_MS,
    LOOKUPS: 3 * DAY_MS,
    AUDIT: 365 * DAY_MS,
}

IDENTIFIER = re.compile(r"[A-Za-z0-9_.@-]{1,128}")
MESSAGE_ID = re.compile(r"[A-Za-z0-9_.@:-]{1,128}")
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


@dataclass(frozen=True)
class UserSaid:
    """A customer's message, as accepted. Exactly one of `text` and `payload` is set.

    `text` is masked: what is personal in it exists as a mask only (`sealed` will hold the
    ciphertexts). `identified` says whether the token vouched for a known customer.
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


class _OfTheClock:
    """What every event of a timer is for the inbox: the cause of its own turn."""

    @property
    def conversation(self) -> str:
        """The key of the conversation, `tenant:user`."""
        return conversation_key(self.tenant, self.user)  # type: ignore[attr-defined]

    @property
    def message_id(self) -> str:
        """The id that the marker and the replies carry: the event's own."""
        return self.id  # type: ignore[attr-defined]


@dataclass(frozen=True)
class ReminderDue(_OfTheClock):
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


@dataclass(frozen=True)
class SessionIdled(_OfTheClock):
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


@dataclass(frozen=True)
class AnswerGenerated:
    """The outcome of one inbox event; also the marker that it has been processed.

    `message_id` is the customer's, or the id of the timer's event that caused the turn.
    `status` is `answered` or `failed` (then `reason` is a stable class). `replies` are those of
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

    `letter` is the letter's id (see `kefu.dlq.letters`). `outcome` is `replaying` before the replay
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


Event = TypeVar(
    "Event", UserSaid, ReminderDue, SessionIdled, AnswerGenerated, TurnEvents, DeadLetterHandled, AuditEntry
)
_KINDS = (UserSaid, ReminderDue, SessionIdled, AnswerGenerated, TurnEvents, DeadLetterHandled, AuditEntry)
TYPES: Dict[str, type] = {kind.__name__: kind for kind in _KINDS}
# What the inbox handles.
TimerDue = Union[ReminderDue, SessionIdled]
InboxEvent = Union[UserSaid, ReminderDue, SessionIdled]
_INBOX = {kind.__name__: kind for kind in (UserSaid, ReminderDue, SessionIdled)}
_FIELDS = {kind: frozenset(f.name for f in fields(kind)) for kind in TYPES.values()}
_INBOX_LIMITS: Tuple[Tuple[str, "re.Pattern[str]"], ...] = (
    ("tenant", IDENTIFIER),
    ("user", IDENTIFIER),
    ("message_id", MESSAGE_ID),
)


def encode(event: Any) -> bytes:
    """Return the event as JSON, UTF-8."""
    return orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)  # confidences may be numpy's


def decode(value: bytes, kind: Type[Event]) -> Event:
    """Return the event in `value`.

    Fields that this version doesn't know are ignored, so that a newer sender may add some.

    Raises:
        PoisonMessage: not JSON, another type or version, a field missing or of the wrong type.
    """
    return _build(_object(value), kind)


def decode_inbox(value: bytes) -> InboxEvent:
    """Return the event in a record of `user.query`. Raises PoisonMessage as `decode` does."""
    found = _object(value)
    kind = _INBOX.get(str(found.get("type")))
    if kind is None:
        raise PoisonMessage("unknown_type", "type is none that the inbox handles")
    return _build(found, kind)


def _object(value: bytes) -> Dict[str, Any]:
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise PoisonMessage("not_json", "value is not JSON") from error
    if not isinstance(found, dict):
        raise PoisonMessage("malformed", "value is not a JSON object")
    return found


def _build(found: Dict[str, Any], kind: Type[Event]) -> Event:
    if found.get("type") != kind.__name__:
        raise PoisonMessage("unknown_type", f"type is not {kind.__name__}")
    if found.get("v") != VERSION:
        raise PoisonMessage("unknown_version", f"version is not {VERSION}")
    try:
        event = kind(**{name: found[name] for name in found.keys() & _FIELDS[kind]})
    except TypeError as error:
        raise PoisonMessage("malformed", f"{kind.__name__} lacks a field") from error
    if kind.__name__ in _INBOX:
        _check_inbox(event)
        _check_said(event) if kind is UserSaid else _check_timer(event)
    return event


def _check_inbox(event: Any) -> None:
    """Refuse what can't be told apart from a bug or an attack before it reaches a tracker."""
    for name, pattern in _INBOX_LIMITS:
        value = getattr(event, name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise PoisonMessage("malformed", f"{name} is malformed")
    if not isinstance(event.ts, int):
        raise PoisonMessage("malformed", "ts is of the wrong type")


def _check_said(said: Any) -> None:
    if [isinstance(said.text, str), isinstance(said.payload, str)].count(True) != 1:
        raise PoisonMessage("malformed", "exactly one of text and payload must be a string")
    if not isinstance(said.metadata, dict) or not isinstance(said.identified, bool):
        raise PoisonMessage("malformed", "metadata or identified is of the wrong type")


def _check_timer(timer: Any) -> None:
    if not isinstance(timer.due, int) or not isinstance(getattr(timer, "name", ""), str):
        raise PoisonMessage("malformed", "due or name is of the wrong type")
