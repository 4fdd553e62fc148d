"""A message taken from Kafka on its way through its lane, and its stored outcome."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, NamedTuple, Optional

from kefu.events import InboxEvent
from kefu.worker.intake.records import Record
from kefu.worker.turns.runner import TurnRunner


@dataclass
class Inbound:
    """A message taken from Kafka and not finished yet.

    Attributes:
        mine: whether this worker still owns the partition; otherwise no turn is begun or repeated.
        parsed: NLU's result, computed for the whole poll; None for a timer and a desk event.
        runner: the runner of the model that computes `parsed`. None if there is no text: then the message gets the
            runner that serves when its turn begins. A message sees one model only, even if the model is swapped.
        attempts: how many attempts to process the message have failed.
        kept: whether it was already decided to lend the message or not; a message is lent at most once.
        lent_s: the part of the turn's deadline that lending took.
        spent_s: the part of the turn's deadline that failed attempts took.
        taken: when the message was taken, by the monotonic clock in s.
    """

    record: Record
    event: InboxEvent
    mine: Callable[[], bool]
    parsed: "Optional[asyncio.Future[Dict[str, Any]]]"
    runner: Optional[TurnRunner] = None
    attempts: int = 0
    kept: bool = False
    lent_s: float = 0.0
    spent_s: float = 0.0
    taken: float = field(default_factory=time.monotonic)


class Done(NamedTuple):
    """A message's stored outcome.

    Attributes:
        answer: the encoded AnswerGenerated.
        version: of the conversation after the turn.
        events: of the turn, encoded; empty for none.
    """

    answer: bytes
    version: int
    events: bytes
