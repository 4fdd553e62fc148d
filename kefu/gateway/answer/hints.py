"""Receives hints from Redis that a conversation has new replies: a connection per master, a channel per conversation.

A hint may be lost (Redis restarts, the connection breaks). A request that watches a conversation therefore reads the
stored state after subscribing, at every wake-up, and every POLL_S anyway.
"""

import asyncio
import math
from collections import OrderedDict
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Optional, Set

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kefu import metrics
from kefu.errors import StoreUnavailable
from kefu.gateway.answer.hint_connection import HintConnection
from kefu.gateway.answer.redis_client import Nodes, Servers
from kefu.keys import ConversationKeys

POLL_S = 2.0  # a watcher without hints reads the stored state this often
POLL_GRID_S = 0.1  # the times of these reads are rounded up to a multiple of this, so that many share one round trip
MAP_S = 2.0  # a cluster that doesn't answer is asked for its masters this often
MAX_HINTED = 256  # limits the message ids that one watch keeps; ids beyond it are dropped
# A subscription is kept this long after its last watcher: a customer who was just answered usually writes again.
LINGER_S = 60.0
MAX_LINGERING = 10_000  # limits the subscriptions without a watcher; beyond it the oldest one is given up
Heard = Callable[[str, str], None]  # gets the conversation and the message id of a hint


def until_poll(now: float, limit_s: float = math.inf) -> float:
    """Return the time in s from `now` (the event loop's clock) to the next poll; at most `limit_s`."""
    at = math.ceil((now + POLL_S) / POLL_GRID_S) * POLL_GRID_S
    return min(at - now, limit_s)


class Channel:
    """The hints of one conversation: its watchers, and the connection that brings them (None while unknown)."""

    def __init__(self, name: bytes, conversation: str) -> None:
        self.name = name
        self.conversation = conversation
        self.watches: Set[Watch] = set()
        self.connection: Optional[HintConnection] = None

    @property
    def live(self) -> bool:
        """Whether Redis has confirmed the subscription, so that hints arrive."""
        return self.connection is not None and self.name in self.connection.live

    def wake(self, message_id: Optional[str] = None) -> None:
        """Wake all watchers of the conversation, with the message id of the hint if there is one."""
        for watch in self.watches:
            watch.wake(message_id)


class Watch:
    """A watcher of one conversation. Message ids beyond MAX_HINTED are dropped: they are only hints."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._hinted: Set[str] = set()
        self._woken = False
        self._waiting: Optional[asyncio.Future[None]] = None

    @property
    def live(self) -> bool:
        """Whether hints arrive. Before that only reading finds new replies; when hints begin, the watch is woken."""
        return self._channel.live

    def wake(self, message_id: Optional[str] = None) -> None:
        """Wake the watcher: there may be something new, of the message `message_id` where one is given."""
        if message_id is not None and len(self._hinted) < MAX_HINTED:
            self._hinted.add(message_id)
        self._woken = True
        self._go_on()

    async def wait(self, timeout_s: float) -> Set[str]:
        """Wait for a wake-up, at most `timeout_s`; return the message ids of the hints since the last call."""
        if not self._woken:
            self._waiting = self._loop.create_future()
            timer = self._loop.call_later(timeout_s, self._go_on)
            try:
                await self._waiting
            finally:
                timer.cancel()
                self._waiting = None
        self._woken = False
        hinted, self._hinted = self._hinted, set()
        return hinted

    def _go_on(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Hub:
    """Subscribes to a conversation while it is watched and LINGER_S longer; wakes its watchers at each hint.

    Args:
        servers: the Redis servers; their clients must not retry by themselves.
        prefix: the prefix of all keys.
        heard: called with the conversation and the message id of every hint.
    """

    def __init__(self, servers: Servers, prefix: str, heard: Heard = lambda *_: None) -> None:
        self._servers = servers
        self._prefix = prefix
        self._heard = heard
        self._channels: Dict[bytes, Channel] = {}
        # Channels without a watcher, with the time since when. Their subscriptions end after LINGER_S.
        self._lingering: OrderedDict[bytes, float] = OrderedDict()
        self._connections: Dict[Redis, HintConnection] = {}
        self._placed = -1  # the version of the slot map by which the channels were put on their connections
        self._broken = asyncio.Event()
        self._task: Optional[asyncio.Task[None]] = None
        self.closed = False
        metrics.HINT_CHANNELS.set_function(lambda: len(self._channels))

    @property
    def watched(self) -> int:
        """The number of conversations that some request watches."""
        return len(self._channels) - len(self._lingering)

    @property
    def connected(self) -> bool:
        """Whether the connections to all Redis masters are open, so that every hint arrives."""
        return bool(self._connections) and all(connection.connected for connection in self._connections.values())

    @property
    def subscribed(self) -> Set[bytes]:
        """The channels whose subscription Redis has confirmed."""
        return {name for connection in self._connections.values() for name in connection.live}

    def start(self) -> None:
        """Connect, and reconnect after each break, until `close`."""
        self._task = asyncio.create_task(self._run(), name="masters")

    def release(self) -> None:
        """Set `closed` and wake all watchers, so that their requests end."""
        self.closed = True
        for channel in list(self._channels.values()):
            channel.wake()

    async def close(self) -> None:
        """Wake all watchers as `release` does, then close the connections."""
        self.release()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(connection.stop() for connection in self._connections.values()))

    @contextmanager
    def watch(self, conversation: str) -> Iterator[Watch]:
        """Return a context in which the caller is woken when the conversation has something new.

        The caller reads the stored state once at the beginning, then at every wake-up and every POLL_S.
        """
        name = ConversationKeys(self._prefix, conversation).hint.encode()
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, conversation)
            self._place(channel)
        self._lingering.pop(name, None)
        watch = Watch(channel)
        channel.watches.add(watch)
        try:
            yield watch
        finally:
            channel.watches.discard(watch)
            if not channel.watches:
                self._lingering[name] = asyncio.get_running_loop().time()
                if len(self._lingering) > MAX_LINGERING:
                    self._forget(next(iter(self._lingering)))

    def _forget(self, name: bytes) -> None:
        """Unsubscribe from a channel that has no watchers."""
        del self._lingering[name]
        _drop(self._channels.pop(name))

    def _forget_quiet(self, before: float) -> None:
        """Unsubscribe from the channels without a watcher since `before`."""
        while self._lingering:
            name, since = next(iter(self._lingering.items()))
            if since > before:
                break
            self._forget(name)

    def _place(self, channel: Channel) -> None:
        """Subscribe to a channel on the master of its conversation; drop it where that master is unknown."""
        holder = self._servers.holder(channel.name)
        connection = self._connections.get(holder) if holder else None
        if connection is channel.connection:
            return
        _drop(channel)
        channel.connection = connection
        if connection:
            connection.want(channel.name)

    async def _run(self) -> None:
        """Keep a connection to each master; ask for the masters again when a connection breaks, and every MAP_S."""
        while True:
            self._broken.clear()
            try:
                await self._set_connections(await self._servers.masters())
            except (StoreUnavailable, RedisError, OSError):
                pass  # the next round asks again; a broken HintConnection logs its own loss
            try:
                await asyncio.wait_for(self._broken.wait(), MAP_S)
            except TimeoutError:
                pass
            self._forget_quiet(asyncio.get_running_loop().time() - LINGER_S)

    async def _set_connections(self, masters: List[Redis]) -> None:
        """Open a connection to each new master, move the channels to their masters, and close the other connections."""
        gone = [self._connections.pop(redis) for redis in list(self._connections) if redis not in masters]
        for redis in masters:
            if redis not in self._connections:
                sharded = isinstance(self._servers, Nodes)
                connection = HintConnection(redis, sharded, self._confirm, self._hint, self._turned)
                self._connections[redis] = connection
                connection.start()
        if self._placed != self._servers.version:
            self._placed = self._servers.version
            for channel in self._channels.values():
                self._place(channel)
        for connection in gone:
            await connection.stop()

    def _confirm(self, name: bytes) -> None:
        channel = self._channels.get(name)
        if channel:
            channel.wake()  # the watchers read the replies that were written before the subscription

    def _hint(self, name: bytes, message_id: str) -> None:
        channel = self._channels.get(name)
        if channel:
            self._heard(channel.conversation, message_id)
            channel.wake(message_id)

    def _turned(self, connection: HintConnection, connected: bool) -> None:
        """Handle the opening or the break of a connection.

        After an opening the watchers are woken, because they may have missed hints. After a break the masters are asked
        for again.
        """
        if connected:
            for name in connection.wanted:
                self._channels[name].wake()
            return
        for name in [name for name in connection.wanted if name in self._lingering]:
            self._forget(name)
        self._servers.doubt()
        self._broken.set()


def _drop(channel: Channel) -> None:
    if channel.connection:
        channel.connection.drop(channel.name)
        channel.connection = None
