"""One connection to one master of Redis, on which the hints of its conversations come.

In: the channels that somebody watches there. Out: calls when a hint comes, when the connection
stands, when it breaks. It connects again until it is stopped.
"""

import asyncio
import logging
from collections import Counter
from typing import Callable, Dict, Iterable, List, Optional, Set

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from kefu import metrics
from kefu.redis_cluster import slot_of

logger = logging.getLogger(__name__)

PING_S = 5.0
SILENCE_S = 3 * PING_S  # a connection on which not even a pong came is dead
MAX_BACKOFF_S = 2.0
SUBSCRIBE_BATCH = 500


class SlotTaken(ConnectionError):
    """The master has unsubscribed a channel by itself: the slot is another's now."""


class Line:
    """Keeps the subscriptions of one connection equal to `wanted`.

    Args:
        redis: a client that must not retry by itself.
        sharded: whether it is one of a cluster: then a command may name channels of one slot only.
        confirmed: called with each channel that the server has subscribed.
        hinted: called with a channel and the message id that came on it.
        turned: called when the connection has come to stand, with True, and when it broke, with False.
    """

    def __init__(
        self,
        redis: Redis,
        sharded: bool,
        confirmed: Callable[[bytes], None],
        hinted: Callable[[bytes, str], None],
        turned: "Callable[[Line, bool], None]",
    ) -> None:
        self.wanted: Set[bytes] = set()
        self.live: Set[bytes] = set()
        self.connected = False
        self._redis = redis
        self._sharded = sharded
        self._confirmed = confirmed
        self._hinted = hinted
        self._turned = turned
        self._changed = asyncio.Event()
        self._leaving: Counter[bytes] = Counter()
        self._task: Optional[asyncio.Task[None]] = None

    def start(self) -> None:
        """Connect, now and again, until `stop`."""
        self._task = asyncio.create_task(self._run(), name="hints")

    async def stop(self) -> None:
        """Drop the connection."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def change(self) -> None:
        """Note that `wanted` has changed."""
        self._changed.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                await self._session()
            except (RedisError, OSError, TimeoutError) as error:
                level = logging.WARNING if self.connected or not failures else logging.DEBUG
                fields = {"cause": error.__class__.__name__}
                logger.log(level, "hints interrupted, polling goes on", extra={"fields": fields})
            failures = 1 if self.connected else failures + 1
            self.connected = False
            metrics.HINT_BREAKS.inc()
            self.live.clear()
            self._leaving.clear()
            self._turned(self, False)
            await asyncio.sleep(min(MAX_BACKOFF_S, 0.1 * 2 ** min(failures, 10)))

    async def _session(self) -> None:
        """Serve one connection until it breaks. Only `_subscribe` writes on it, only `_read` reads."""
        pubsub = self._redis.pubsub()
        tasks = []
        try:
            await pubsub.connect()
            self.connected = True
            self._changed.set()
            self._turned(self, True)
            tasks = [asyncio.create_task(self._subscribe(pubsub)), asyncio.create_task(self._read(pubsub))]
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await pubsub.aclose()

    async def _subscribe(self, pubsub: PubSub) -> None:
        """Keep the connection's subscriptions equal to what is wanted; ping it when nothing changes."""
        asked: Set[bytes] = set()
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), PING_S)
            except TimeoutError:
                await pubsub.ping()
            self._changed.clear()
            for batch in self._batches(self.wanted - asked):
                await pubsub.ssubscribe(*batch)
                asked.update(batch)
            for batch in self._batches(asked - self.wanted):
                self.live.difference_update(batch)
                self._leaving.update(batch)
                await pubsub.sunsubscribe(*batch)
                asked.difference_update(batch)

    async def _read(self, pubsub: PubSub) -> None:
        while True:
            message = await pubsub.get_message(timeout=SILENCE_S)
            if message is None:
                raise TimeoutError("no pong on the connection for hints")
            name = message["channel"]
            if message["type"] == "smessage":
                metrics.HINTS.inc()
                self._hinted(name, message["data"].decode(errors="replace"))
            elif message["type"] == "ssubscribe" and name in self.wanted:
                self.live.add(name)
                self._confirmed(name)
            elif message["type"] == "sunsubscribe":
                self._left(name)

    def _left(self, name: bytes) -> None:
        if self._leaving[name] <= 0:
            raise SlotTaken
        self._leaving[name] -= 1
        if not self._leaving[name]:
            del self._leaving[name]

    def _batches(self, names: Iterable[bytes]) -> "List[List[bytes]]":
        if not self._sharded:
            listed = list(names)
            return [listed[n : n + SUBSCRIBE_BATCH] for n in range(0, len(listed), SUBSCRIBE_BATCH)]
        by_slot: Dict[int, List[bytes]] = {}
        for name in names:
            by_slot.setdefault(slot_of(name), []).append(name)
        return list(by_slot.values())
