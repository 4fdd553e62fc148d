"""Looks for due timers in the partitions that this worker owns, and sends them to the inbox.

In: the index of due times. Out: `ReminderDue` and `SessionIdled` on `user.query`. An entry is removed only after
Kafka has acknowledged its event. If the worker dies in between, the next owner sends the event again under the same id.
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

EVERY_S = 1.0  # the mean interval between two looks into the index
AGAIN_S = 0.1  # the interval while more timers are due than one look sends
# How many due timers one look may send, over all partitions. Customers' messages wait behind them in Kafka, so the
# number is limited.
BATCH = 16  # one look may send at least this many while fewer than BATCH messages are in flight
TRICKLE = 4  # one look may send at least this many while more messages are in flight
SHARE = 4  # if that is more, one look may send a timer for each SHARE messages served since the last look
MOST = 64  # one look never sends more than this many; the rest stays in the index for the next look


class Load(Protocol):
    """The part of the intake that `DueScan` reads."""

    @property
    def assigned(self) -> List[int]:
        """The numbers of the partitions that this worker owns."""

    @property
    def inflight(self) -> int:
        """The number of messages that were taken from Kafka and are not finished."""

    @property
    def served(self) -> int:
        """The number of messages that were finished since the worker's start."""


class DueScan:
    """The worker's periodic search for due timers. `start` and `stop` belong to the event loop's thread."""

    def __init__(
        self,
        index: DueIndex,
        producer: EventProducer,
        intake: Load,
        away: Callable[[], bool],
        clock: Callable[[], int] = now_ms,
    ) -> None:
        """Create the search, which begins with `start`.

        Args:
            index: holds the due times.
            producer: sends to `user.query`.
            intake: tells which partitions this worker owns, and how busy it is.
            away: whether the worker takes no messages now, because Redis is away or for another reason.
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
        """The class of the error that ended the search, None while it runs."""
        task = self._task
        if task is None or not task.done() or task.cancelled():
            return None
        return type(task.exception()).__name__

    def start(self) -> None:
        """Start the periodic search in a task of the event loop."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Stop the search. Timers on their way to Kafka may still arrive; the next owner removes their entries."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        more = False
        while True:
            # Jitter keeps the workers from asking Redis all at the same moment.
            await asyncio.sleep(AGAIN_S if more else EVERY_S * (0.75 + random.random() / 2))  # noqa: S311
            try:
                more = await self.once()
            except (StoreUnavailable, QueueUnavailable) as error:
                more = False
                logger.warning("due timers wait", extra={"fields": {"error": str(error)}})

    async def once(self) -> bool:
        """Look once; return whether more timers may be due.

        Raises:
            StoreUnavailable, QueueUnavailable: the due timers stay in the index, and the next look finds them.
        """
        if self._away():
            return False
        partitions, room = self._intake.assigned, self._room()
        if not partitions:
            return False
        timers = sorted(await self._index.due(partitions, self._clock(), room), key=lambda timer: timer.due)
        mine = set(self._intake.assigned)  # a partition may have been revoked during the await above
        await self._send([timer for timer in timers if timer.partition in mine][:room])
        return len(timers) >= room

    def _room(self) -> int:
        """Return how many timers may be sent now: more, the more messages were served since the last look."""
        served = self._intake.served - self._served
        self._served += served
        least = BATCH if self._intake.inflight < BATCH else TRICKLE
        return min(MOST, max(least, served // SHARE))

    async def _send(self, timers: List[Due]) -> None:
        """Send timers to the inbox, and remove the entries of those that Kafka has acknowledged."""
        outcomes = await asyncio.gather(*(self._acknowledged(due) for due in timers), return_exceptions=True)
        acknowledged = [due for due, outcome in zip(timers, outcomes, strict=True) if outcome is None]
        if acknowledged:
            await self._index.remove(acknowledged)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _acknowledged(self, due: Due) -> None:
        """Send one timer; return when Kafka has acknowledged it, or when it can never be sent and is to be removed."""
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
