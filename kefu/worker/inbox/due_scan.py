"""Looks for timers that are due, in the partitions that this worker owns, and puts them into the inbox.

In: the index of due times. Out: `ReminderDue` and `SessionIdled` on `user.query`, acknowledged before
their entries are removed; who dies in between leaves them to be sent again, under the same ids.
"""

import asyncio
import logging
import random
from typing import Callable, List, Optional, Protocol

from kefu import metrics
from kefu.codec import encode
from kefu.errors import QueueUnavailable, RecordRefused, StoreUnavailable
from kefu.events import USER_QUERY, now_ms
from kefu.kafka import EventProducer
from kefu.worker.storage.due_index import Due, DueIndex

logger = logging.getLogger(__name__)

EVERY_S = 1.0
AGAIN_S = 0.1  # while more is due than one look takes
# Timers of one look, all partitions together: what customers' messages may find before them.
BATCH = 16  # at least, while fewer messages than that are under way
TRICKLE = 4  # at least, while more are
SHARE = 4  # or one for so many messages that were served since the last look
MOST = 64


class Load(Protocol):
    """What the look-out asks of the intake."""

    @property
    def assigned(self) -> List[int]:
        """The partitions that are this worker's."""

    @property
    def inflight(self) -> int:
        """How many messages have been taken and are not done with."""

    @property
    def served(self) -> int:
        """How many messages have been done with, since the start."""


class DueScan:
    """The worker's look-out for due timers. `start` and `stop` belong to the event loop's thread."""

    def __init__(
        self,
        index: DueIndex,
        producer: EventProducer,
        intake: Load,
        away: Callable[[], bool],
        clock: Callable[[], int] = now_ms,
    ) -> None:
        """Prepare; looks from `start` on.

        Args:
            index: where the due times are.
            producer: of `user.query`.
            intake: says which partitions are this worker's, and how busy it is.
            away: whether Redis is away, or something else keeps the worker from taking messages.
            clock: the time in ms that due times are compared with.
        """
        self._index = index
        self._producer = producer
        self._intake = intake
        self._away = away
        self._clock = clock
        self._served = intake.served
        self._task: Optional[asyncio.Task[None]] = None

    @property
    def failure(self) -> Optional[str]:
        """The class of the error that ended the look-out, None while it looks."""
        task = self._task
        if task is None or not task.done() or task.cancelled():
            return None
        return type(task.exception()).__name__

    def start(self) -> None:
        """Begin to look, in a task."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Look no more; what is on its way to Kafka may arrive, and is removed by the next owner."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        more = False
        while True:
            # With jitter, so that the workers don't ask the store in step.
            await asyncio.sleep(AGAIN_S if more else EVERY_S * (0.75 + random.random() / 2))  # noqa: S311
            try:
                more = await self.once()
            except (StoreUnavailable, QueueUnavailable) as error:
                more = False
                logger.warning("due timers wait", extra={"fields": {"error": str(error)}})

    async def once(self) -> bool:
        """Look once; return whether there may be more.

        Raises:
            StoreUnavailable, QueueUnavailable: what is due stays so, and is found by the next look.
        """
        if self._away():
            return False
        partitions, room = self._intake.assigned, self._room()
        if not partitions:
            return False
        found = sorted(await self._index.due(partitions, self._clock(), room), key=lambda each: each.due)
        mine = set(self._intake.assigned)  # some may have left meanwhile
        await self._send([due for due in found if due.partition in mine][:room])
        return len(found) >= room

    def _room(self) -> int:
        """Return how many timers may go now: a share of what is served, so that they keep up with any load."""
        served = self._intake.served - self._served
        self._served += served
        least = BATCH if self._intake.inflight < BATCH else TRICKLE
        return min(MOST, max(least, served // SHARE))

    async def _send(self, taken: List[Due]) -> None:
        """Put timers into the inbox; the entries of those that Kafka has are removed."""
        sent = await asyncio.gather(*(self._acknowledged(due) for due in taken), return_exceptions=True)
        done = [due for due, outcome in zip(taken, sent, strict=True) if outcome is None]
        if done:
            await self._index.remove(done)
        for outcome in sent:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _acknowledged(self, due: Due) -> None:
        if due.event is None:
            metrics.TIMERS_DROPPED.labels("unknown", "malformed").inc()
            logger.error("an entry of the index of due times can't be read and is removed")
            return
        metrics.TIMERS_DUE.labels(due.event.type).inc()
        try:
            await self._producer.send(USER_QUERY, due.event.conversation, encode(due.event))
        except RecordRefused:
            metrics.TIMERS_DROPPED.labels(due.event.type, "refused").inc()
            logger.error("kafka refuses a timer for good", extra={"fields": {"id": due.event.id}})
