"""A message as it was taken from Kafka, on its way through its lane, and what it came to."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, NamedTuple, Optional

from kefu.events import InboxEvent
from kefu.worker.intake.records import Record
from kefu.worker.turns.runner import TurnRunner


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
    event: InboxEvent
    mine: Callable[[], bool]
    parsed: "Optional[asyncio.Future[Dict[str, Any]]]"
    runner: Optional[TurnRunner] = None
    attempts: int = 0
    kept: bool = False  # it was lent to a release's candidate, once
    lent_s: float = 0.0  # which is part of its turn's deadline
    spent_s: float = 0.0  # of it, by attempts
    taken: float = field(default_factory=time.monotonic)


class Done(NamedTuple):
    """What a message came to, stored: the encoded AnswerGenerated, its version, the encoded events (empty for none)."""

    answer: bytes
    version: int
    events: bytes
