"""A dead letter: its content, its id, and its state of handling."""

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
    """A letter's place in the topic; written `PARTITION:OFFSET`."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class State(NamedTuple):
    """The handling of a letter: `open`, `replaying` (begun, not known to be sent), `replayed` or `dropped`."""

    outcome: str = OPEN
    attempt: int = 0
    actor: str = ""
    ts: int = 0


@dataclass(frozen=True)
class Letter:
    """A dead letter: a record of the inbox that could not be processed, unchanged.

    Attributes:
        ts: time when it became a dead letter, in ms since the epoch.
        said: the inbox event in the letter; None if it can't be read.
        flaw: stable class of the reason why the event can't be read; empty if it can.
        id: the same for all copies of a letter. Copies exist because dead letters are sent at least once, and because
            a client may send a failed message again.
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
        """Return the record's last header of this name as text, or `default` if there is none."""
        values = [value for each, value in self.headers if each == name]
        return (values[-1] or b"").decode("utf-8", "replace") if values else default

    @property
    def origin(self) -> Tuple[str, str, str]:
        """Topic, partition and offset of the original record; the letter's own position if its headers lack them."""
        origin = tuple(self.header(name) for name in (ORIGIN_TOPIC, ORIGIN_PARTITION, ORIGIN_OFFSET))
        return origin if all(origin) else (DEAD_LETTERS, *map(str, self.position))  # type: ignore[return-value]

    @property
    def error_class(self) -> str:
        """The class of the error for which the record became a dead letter."""
        return self.header(ERROR_CLASS, "unknown")

    @property
    def attempts(self) -> int:
        """The number of attempts to process the record before it became a dead letter."""
        number = self.header(ATTEMPTS, "1")
        return int(number) if re.fullmatch(r"\d{1,9}", number) else 1

    @property
    def owner(self) -> Tuple[str, str]:
        """Tenant and user from the record's key; both empty if the key has not the form `tenant:user`."""
        match = _CONVERSATION.fullmatch(self.key.decode("utf-8", "replace"))
        return (match[1], match[2]) if match else ("", "")

    @property
    def conversation(self) -> str:
        """The conversation, `tenant:user`, from the record's key; empty if the key has not that form."""
        return ":".join(self.owner) if self.owner[0] else ""


@dataclass(frozen=True)
class Wanted:
    """A filter of letters; an empty field allows all. Times are in ms since the epoch."""

    error_classes: FrozenSet[str] = frozenset()
    since: Optional[int] = None
    until: Optional[int] = None
    tenant: str = ""
    conversation: str = ""
    handled: bool = False

    def takes(self, letter: Letter, state: State) -> bool:
        """Return whether the filter selects this letter."""
        return (
            (self.handled or state.outcome in (OPEN, REPLAYING))
            and (not self.error_classes or letter.error_class in self.error_classes)
            and (self.since is None or letter.ts >= self.since)
            and (self.until is None or letter.ts < self.until)
            and (not self.tenant or letter.owner[0] == self.tenant)
            and (not self.conversation or letter.conversation == self.conversation)
        )


def read_said(key: bytes, value: bytes) -> Tuple[Optional[InboxEvent], str]:
    """Return the inbox event in a letter, or None and the stable class of the reason why it can't be read."""
    try:
        said = decode_inbox(value)
    except PoisonMessage as error:
        return None, error.error_class
    if key != said.conversation.encode():
        return None, "wrong_key"
    return said, ""
