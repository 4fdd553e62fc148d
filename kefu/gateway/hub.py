"""Hints from Redis that a conversation has something new: one connection a process, one channel a conversation.

A hint may be lost (Redis restarts, the connection breaks), so whoever watches reads the stored
state after subscribing, at every wake-up, and every POLL_S anyway.
"""

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import AsyncIterator, Dict, Optional, Set

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from kefu import metrics
from kefu.keys import ConversationKeys

logger = logging.getLogger(__name__)

POLL_S = 2.0
CONFIRM_S = 1.0  # how long a watcher waits for its subscription; past it, polling finds the answer
PING_S = 5.0
SILENCE_S = 3 * PING_S  # a connection on which not even a pong came is dead
MAX_BACKOFF_S = 2.0
MAX_HINTED = 256
SUBSCRIBE_BATCH = 500


class Watch:
    """One who waits on a conversation. Message ids beyond MAX_HINTED are dropped: they are only hints."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._hinted: Set[str] = set()

    def wake(self, message_id: Optional[str] = None) -> None:
        """Tell that there may be something new, and of which message."""
        if message_id is not None and len(self._hinted) < MAX_HINTED:
            self._hinted.add(message_id)
        self._woken.set()

    async def wait(self, timeout_s: float) -> Set[str]:
        """Return the ids hinted since the last call, at a wake-up or after `timeout_s`."""
        try:
            await asyncio.wait_for(self._woken.wait(), timeout_s)
        except TimeoutError:
            pass
        self._woken.clear()
        hinted, self._hinted = self._hinted, set()
        return hinted


class _Channel:
    def __init__(self) -> None:
        self.watches: Set[Watch] = set()
        self.confirmed = asyncio.Event()


class Hub:
    """Subscribes while somebody watches, wakes the watchers. `redis` must not retry by itself."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._channels: Dict[bytes, _Channel] = {}
        self._live: Set[bytes] = set()
        self._changed = asyncio.Event()
        self._task: Optional[asyncio.Task[None]] = None
        self.connected = False
        self.closed = False

    def start(self) -> None:
        """Connect, now and again, until `close`."""
        self._task = asyncio.create_task(self._run(), name="hints")

    def release(self) -> None:
        """Let everyone who waits go: they find `closed` set."""
        self.closed = True
        self._wake_all()

    async def close(self) -> None:
        """Release all and drop the connection."""
        self.release()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    @asynccontextmanager
    async def watch(self, conversation: str) -> AsyncIterator[Watch]:
        """Watch a conversation; the subscription stands (or CONFIRM_S are over) when this is entered."""
        name = ConversationKeys(self._prefix, conversation).hint.encode()
        channel = self._channels.setdefault(name, _Channel())
        watch = Watch()
        channel.watches.add(watch)
        metrics.HINT_CHANNELS.set(len(self._channels))
        self._changed.set()
        try:
            if self.connected and name not in self._live:
                await self._confirmed(channel)
            yield watch
        finally:
            channel.watches.discard(watch)
            if not channel.watches and self._channels.get(name) is channel:
                del self._channels[name]
            metrics.HINT_CHANNELS.set(len(self._channels))
            self._changed.set()

    @staticmethod
    async def _confirmed(channel: _Channel) -> None:
        try:
            await asyncio.wait_for(channel.confirmed.wait(), CONFIRM_S)
        except TimeoutError:
            pass

    def _wake_all(self) -> None:
        for channel in list(self._channels.values()):
            for watch in channel.watches:
                watch.wake()

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
            self._live.clear()
            for channel in self._channels.values():
                channel.confirmed.clear()
            await asyncio.sleep(min(MAX_BACKOFF_S, 0.1 * 2 ** min(failures, 10)))

    async def _session(self) -> None:
        """Serve one connection until it breaks. Only `_subscribe` writes on it, only `_read` reads."""
        pubsub = self._redis.pubsub()
        tasks = []
        try:
            await pubsub.connect()
            self.connected = True
            self._changed.set()
            self._wake_all()  # what was hinted while nobody listened is read now
            tasks = [asyncio.create_task(self._subscribe(pubsub)), asyncio.create_task(self._read(pubsub))]
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await pubsub.aclose()

    async def _subscribe(self, pubsub: PubSub) -> None:
        """Keep the connection's subscriptions equal to what is watched; ping it when nothing changes."""
        asked: Set[bytes] = set()
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), PING_S)
            except TimeoutError:
                await pubsub.ping()
            self._changed.clear()
            wanted = self._channels.keys()
            for batch in _batches(list(wanted - asked)):
                await pubsub.ssubscribe(*batch)
                asked.update(batch)
            for batch in _batches(list(asked - wanted)):
                self._live.difference_update(batch)
                await pubsub.sunsubscribe(*batch)
                asked.difference_update(batch)

    async def _read(self, pubsub: PubSub) -> None:
        while True:
            message = await pubsub.get_message(timeout=SILENCE_S)
            if message is None:
                raise TimeoutError("no pong on the connection for hints")
            channel = self._channels.get(message["channel"])
            if channel is None:
                continue
            if message["type"] == "ssubscribe":
                self._live.add(message["channel"])
                channel.confirmed.set()
            elif message["type"] == "smessage":
                metrics.HINTS.inc()
                hinted = message["data"].decode(errors="replace")
                for watch in channel.watches:
                    watch.wake(hinted)


def _batches(names: "list[bytes]") -> "list[list[bytes]]":
    return [names[n : n + SUBSCRIBE_BATCH] for n in range(0, len(names), SUBSCRIBE_BATCH)]
