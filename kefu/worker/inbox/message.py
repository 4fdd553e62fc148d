"""A message as it was taken from Kafka, and on its way through its lane."""

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Optional, Tuple

from kefu.codec import decode_inbox
from kefu.errors import PoisonMessage
from kefu.events import AgentSaid, InboxEvent, UserSaid
from kefu.privacy import mask, mask_all
from kefu.worker.turns.turn import TurnRunner


@dataclass(frozen=True)
class Record:
    """A record of user.query as Kafka delivered it."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: List[Tuple[str, bytes]]


@dataclass
class Inbound:
    """A message taken from Kafka and not yet done with.

    Attributes:
        mine: whether this worker still owns the partition; a turn is not begun or repeated otherwise.
        parsed: NLU's result, which is made for the whole poll; None for a timer.
        runner: of the model that makes it, None where there are no words: then of the model when its turn comes. A
            message sees one model only, whatever is swapped meanwhile.
    """

    record: Record
    said: InboxEvent
    mine: Callable[[], bool]
    parsed: "Optional[asyncio.Future[Dict[str, Any]]]"
    runner: Optional[TurnRunner] = None
    attempts: int = 0
    kept: bool = False  # it was lent to a release's candidate, once
    lent_s: float = 0.0  # which is part of its turn's deadline
    spent_s: float = 0.0  # of it, by attempts
    taken: float = field(default_factory=time.monotonic)


def read(record: Record) -> InboxEvent:
    """Return the event in a record; what somebody said is masked: whoever wrote it may not have done so.

    Raises:
        PoisonMessage: the record can't be one of ours, or its key names another conversation.
    """
    said = decode_inbox(record.value)
    if record.key != said.conversation.encode():
        raise PoisonMessage("wrong_key", "key and conversation differ")
    if type(said) is AgentSaid:
        return replace(said, text=mask(said.text), name=mask(said.name))
    if type(said) is not UserSaid:
        return said
    return replace(said, text=said.text and mask(said.text), metadata=mask_all(said.metadata))
