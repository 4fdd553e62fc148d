"""Watches a worker: whether Redis answers, whether a part is stuck, and when to collect garbage."""

import asyncio
import logging
import os
import signal
from typing import Callable, List, Optional

from kefu.worker.inbox.protocol import Inbox
from kefu.worker.start import collector
from kefu.worker.storage.mending import Mender

logger = logging.getLogger(__name__)

EVERY_S = 0.5  # time between two checks; a worker notices after at most so long that Redis is away or back


class Watch:
    """The checks of one worker, in a task of their own from `start` to `stop`."""

    def __init__(
        self, mender: Mender, inbox: Inbox, stuck: Callable[[], List[str]], inflight: Callable[[], int]
    ) -> None:
        """Create the watch.

        Args:
            mender: reads from the Redis servers whether one of them is new.
            inbox: is told whether Redis is away.
            stuck: returns the failures that only a restart can repair.
            inflight: returns how many messages are being processed; garbage is collected while there are none.
        """
        self._mender = mender
        self._inbox = inbox
        self._stuck = stuck
        self._inflight = inflight
        self.housekeeping = collector.Housekeeping()
        self._task: Optional[asyncio.Task[None]] = None

    def start(self) -> None:
        """Begin to check."""
        self._task = asyncio.ensure_future(self._run())

    def stop(self) -> None:
        """Check no more."""
        if self._task is not None:
            self._task.cancel()

    async def look(self) -> None:
        """Check once whether Redis is away, back or another server."""
        try:
            await self._mender.look()
            self._inbox.store_lost = False
        except Exception as error:  # noqa: BLE001 - without an answer Redis counts as away, whatever the error
            if not self._inbox.store_lost:
                logger.warning("redis is away", extra={"fields": {"error": error.__class__.__name__}})
            self._inbox.store_lost = True

    async def _run(self) -> None:
        while True:
            await self.look()
            failures = self._stuck()
            if failures:
                give_up(", ".join(failures))
            if self.housekeeping.due(busy=self._inflight() > 0):
                collector.tidy()
            await asyncio.sleep(EVERY_S)


def give_up(reason: str) -> None:
    """End the process. Another worker processes the messages that are not committed."""
    logger.critical("worker gives up", extra={"fields": {"reason": reason}})
    os.kill(os.getpid(), signal.SIGTERM)
