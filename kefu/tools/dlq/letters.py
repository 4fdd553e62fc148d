"""A dead letter: what it is, which one it is, and what was done with it."""

import re
from dataclasses import dataclass, field
from typing import FrozenSet, NamedTuple, Optional, Tuple

from kefu.codec import decode_inbox
from kefu.errors import PoisonMessage
from kefu.events import DEAD_LETTERS, IDENTIFIER, InboxEvent, derived_id
from kefu.headers import ATTEMPTS, ERROR_CLASS, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC

REPLAYING, REPLAYED, DROPPED = "replaying", "replayed", "dropped"
OPEN = "open"
_CONVERSATION = re.compile(rf"({IDENTIFIER.pattern}):({IDENTIFIER.pattern})")


class Position(NamedTuple):
    """Where a letter lies in the topic; written `PARTITION:OFFSET`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class State(NamedTuple):
    """What was done with a letter: `open`, `replaying` (begun, the end unknown), `replayed`, `dropped`."""

    outcome: str = OPEN
    attempt: int = 0
    actor: str = ""
    ts: int = 0


@dataclass(frozen=True)
class Letter:
    """A record that could not be processed, as it came.

    Attributes:
        ts: when it was put aside, ms since the epoch.
        said: the message in it, or the timer; None when it can't be read.
        flaw: why not, a stable class; empty when it can be read.
        id: the same for each copy of a letter, of which there may be several: dead letters are
            sent at least once, and a customer's client may send a message that failed again.
    """

    position: Position
    ts: int
    key: bytes
    value: bytes
    headers: Tuple[Tuple[str, bytes], ...]
    said: Optional[InboxEvent] = None
    flaw: str = ""
    id: str = field(init=False)

    def __post_init__(self) -> None:
        said = self.said
        parts = self.origin if said is None else (said.type, said.tenant, said.user, said.message_id)
        object.__setattr__(self, "id", derived_id("DeadLetter", *parts))

    def header(self, name: str, default: str = "") -> str:
        """Return the last header of this name as text."""
        found = [value for each, value in self.headers if each == name]
        return (found[-1] or b"").decode("utf-8", "replace") if found else default

    @property
    def origin(self) -> Tuple[str, str, str]:
        """Topic, partition and offset that it was first read from; its own place where it doesn't say."""
        said = tuple(self.header(name) for name in (ORIGIN_TOPIC, ORIGIN_PARTITION, ORIGIN_OFFSET))
        return said if all(said) else (DEAD_LETTERS, *map(str, self.position))  # type: ignore[return-value]

    @property
    def error_class(self) -> str:
        """The class of the error that put it aside."""
        return self.header(ERROR_CLASS, "unknown")

    @property
    def attempts(self) -> int:
        """How often it was tried."""
        found = self.header(ATTEMPTS, "1")
        return int(found) if re.fullmatch(r"\d{1,9}", found) else 1

    @property
    def owner(self) -> Tuple[str, str]:
        """Tenant and user by its key; empty where the key is not one of ours, and so might say anything."""
        found = _CONVERSATION.fullmatch(self.key.decode("utf-8", "replace"))
        return (found[1], found[2]) if found else ("", "")

    @property
    def conversation(self) -> str:
        """`tenant:user` by its key, empty like `owner`."""
        return ":".join(self.owner) if self.owner[0] else ""


@dataclass(frozen=True)
class Wanted:
    """Which letters are asked for; what is left empty wants all. Times in ms since the epoch."""

    error_classes: FrozenSet[str] = frozenset()
    since: Optional[int] = None
    until: Optional[int] = None
    tenant: str = ""
    conversation: str = ""
    handled: bool = False

    def takes(self, letter: Letter, state: State) -> bool:
        """Return whether this letter is asked for."""
        return (
            (self.handled or state.outcome in (OPEN, REPLAYING))
            and (not self.error_classes or letter.error_class in self.error_classes)
            and (self.since is None or letter.ts >= self.since)
            and (self.until is None or letter.ts < self.until)
            and (not self.tenant or letter.owner[0] == self.tenant)
            and (not self.conversation or letter.conversation == self.conversation)
        )


def read_said(key: bytes, value: bytes) -> Tuple[Optional[InboxEvent], str]:
    """Return the message or timer in a letter, or None and the class of what is wrong with it."""
    try:
        said = decode_inbox(value)
    except PoisonMessage as error:
        return None, error.error_class
    if key != said.conversation.encode():
        return None, "wrong_key"
    return said, ""
