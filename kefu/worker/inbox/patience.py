"""Repeats a message's call to Redis or Kafka until the server is back.

The wait ends early if the message's partition goes to another worker, which then processes the message.
"""

import asyncio
import logging
import random
from typing import Any, Awaitable, Callable, TypeVar, cast

from kefu import metrics
from kefu.errors import QueueUnavailable, StoreUnavailable

logger = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.1  # the wait doubles with each attempt, from twice this value
LAST_BACKOFF_S = 5.0  # the longest wait between two attempts
Server = TypeVar("Server")
Backoff = Callable[[int], float]


class NotMine(Exception):
    """The message's partition went to another worker, which will process the message."""


def backoff_s(attempt: int) -> float:
    """Return the wait before an attempt, in s. It doubles, with jitter so that the calls don't all return at once."""
    limit = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(attempt, 10))
    return limit * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing


class Waits:
    """The number of an inbox's calls that wait for Redis, and the wait between two attempts of a call."""

    def __init__(self, backoff: Backoff) -> None:
        self.backoff_s = backoff
        self.for_store = 0


class Patience:
    """One message's calls to Redis and Kafka.

    `patience(server)` returns a stand-in for a server. A coroutine method of the stand-in returns once the server has
    answered.
    """

    def __init__(self, mine: Callable[[], bool], waits: Waits) -> None:
        """Create the patience of one message.

        Args:
            mine: whether this worker still owns the message's partition.
            waits: counts the calls that wait; shared by all messages of the inbox.
        """
        self._mine, self._waits = mine, waits

    def __call__(self, server: Server) -> Server:
        """Return a stand-in for a server; its calls raise NotMine if the partition goes to another worker."""
        return cast(Server, _StandIn(server, self.repeat))

    async def repeat(self, call: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Repeat a call until its server answers. Raises NotMine if the partition goes to another worker."""
        try:
            return await call(*arguments)
        except (StoreUnavailable, QueueUnavailable) as error:
            logger.warning("%s is away", _server(error), extra={"fields": {"error": str(error)}})
            return await self._until_back(error, call, *arguments)

    async def _until_back(self, error: Exception, call: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        attempt = 0
        while self._mine():
            attempt += 1
            metrics.RETRIES.labels(_server(error)).inc()
            waits_for_store = isinstance(error, StoreUnavailable)
            self._waits.for_store += waits_for_store
            try:
                await asyncio.sleep(self._waits.backoff_s(attempt))
                return await call(*arguments)
            except (StoreUnavailable, QueueUnavailable) as again:
                error = again
            finally:
                self._waits.for_store -= waits_for_store
        raise NotMine


class _StandIn:
    """A stand-in for a server: each coroutine method is repeated until the server answers."""

    def __init__(self, server: Any, repeat: Callable[..., Awaitable[Any]]) -> None:
        self._server, self._repeat = server, repeat

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(self._server, name)
        return lambda *arguments: self._repeat(call, *arguments)


def _server(error: Exception) -> str:
    return "redis" if isinstance(error, StoreUnavailable) else "kafka"
