"""Hints from Redis that a conversation has something new: one connection a master, one channel a conversation.

A hint may be lost (Redis restarts, the connection breaks), so whoever watches reads the stored
state after subscribing, at every wake-up, and every POLL_S anyway.
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

POLL_S = 2.0
POLL_GRID_S = 0.1  # polls wait for the next of these moments, so that many are read in one round trip
MAP_S = 2.0  # how often a cluster that doesn't answer is asked for its masters
MAX_HINTED = 256
# Who has just been answered will say more: keeping the subscription for a while spares making it again.
LINGER_S = 60.0
MAX_LINGERING = 10_000
Heard = Callable[[str, str], None]


def until_poll(now: float, limit_s: float = math.inf) -> float:
    """Return the time in s from `now`, a loop's, to the next poll; at most `limit_s`."""
    at = math.ceil((now + POLL_S) / POLL_GRID_S) * POLL_GRID_S
    return min(at - now, limit_s)


class Channel:
    """The hints of one conversation: who watches, and the connection that brings them, where that is known."""

    def __init__(self, name: bytes, conversation: str) -> None:
        self.name = name
        self.conversation = conversation
        self.watches: Set[Watch] = set()
        self.connection: Optional[HintConnection] = None

    @property
    def live(self) -> bool:
        """Whether hints arrive now."""
        return self.connection is not None and self.name in self.connection.live

    def wake(self, message_id: Optional[str] = None) -> None:
        """Wake all who watch."""
        for watch in self.watches:
            watch.wake(message_id)


class Watch:
    """One who waits on a conversation. Message ids beyond MAX_HINTED are dropped: they are only hints."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._hinted: Set[str] = set()
        self._woken = False
        self._waiting: Optional[asyncio.Future[None]] = None

    @property
    def live(self) -> bool:
        """Whether hints arrive. Until they do, only looking finds what is new; the watch is woken when they begin."""
        return self._channel.live

    def wake(self, message_id: Optional[str] = None) -> None:
        """Tell that there may be something new, and of which message."""
        if message_id is not None and len(self._hinted) < MAX_HINTED:
            self._hinted.add(message_id)
        self._woken = True
        self._go_on()

    async def wait(self, timeout_s: float) -> Set[str]:
        """Return the ids hinted since the last call, at a wake-up or after `timeout_s`."""
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
    """Subscribes while somebody watches and LINGER_S longer, wakes the watchers.

    Args:
        servers: that must not retry by themselves.
        prefix: of the keys.
        heard: called with conversation and message id of every hint, for whoever counts them.
    """

    def __init__(self, servers: Servers, prefix: str, heard: Heard = lambda *_: None) -> None:
        self._servers = servers
        self._prefix = prefix
        self._heard = heard
        self._channels: Dict[bytes, Channel] = {}
        self._lingering: OrderedDict[bytes, float] = OrderedDict()  # channels that nobody watches, and since when
        self._connections: Dict[Redis, HintConnection] = {}
        self._placed = -1  # the version of the servers' map that the channels were placed by
        self._broken = asyncio.Event()
        self._task: Optional[asyncio.Task[None]] = None
        self.closed = False
        metrics.HINT_CHANNELS.set_function(lambda: len(self._channels))

    @property
    def watched(self) -> int:
        """How many conversations somebody watches."""
        return len(self._channels) - len(self._lingering)

    @property
    def connected(self) -> bool:
        """Whether hints come from every master."""
        return bool(self._connections) and all(connection.connected for connection in self._connections.values())

    @property
    def subscribed(self) -> Set[bytes]:
        """The channels that are confirmed now."""
        return {name for connection in self._connections.values() for name in connection.live}

    def start(self) -> None:
        """Connect, now and again, until `close`."""
        self._task = asyncio.create_task(self._run(), name="masters")

    def release(self) -> None:
        """Let everyone who waits go: they find `closed` set."""
        self.closed = True
        for channel in list(self._channels.values()):
            channel.wake()

    async def close(self) -> None:
        """Release all and drop the connections."""
        self.release()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(connection.stop() for connection in self._connections.values()))

    @contextmanager
    def watch(self, conversation: str) -> Iterator[Watch]:
        """Watch a conversation: look once at the beginning, then whenever the watch is woken, and every POLL_S."""
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
        """Unsubscribe a channel that nobody watches."""
        del self._lingering[name]
        _drop(self._channels.pop(name))

    def _forget_quiet(self, before: float) -> None:
        """Unsubscribe what nobody has watched since `before`."""
        while self._lingering:
            name, since = next(iter(self._lingering.items()))
            if since > before:
                break
            self._forget(name)

    def _place(self, channel: Channel) -> None:
        """Subscribe a channel where its conversation lies, as far as that is known."""
        holder = self._servers.holder(channel.name)
        connection = self._connections.get(holder) if holder else None
        if connection is channel.connection:
            return
        _drop(channel)
        channel.connection = connection
        if connection:
            connection.want(channel.name)

    async def _run(self) -> None:
        """Keep a connection to each master; a broken one is the reason to ask who they are."""
        while True:
            self._broken.clear()
            try:
                await self._set_lines(await self._servers.masters())
            except (StoreUnavailable, RedisError, OSError):
                pass  # asked again below; the lines themselves say what they lost
            try:
                await asyncio.wait_for(self._broken.wait(), MAP_S)
            except TimeoutError:
                pass
            self._forget_quiet(asyncio.get_running_loop().time() - LINGER_S)

    async def _set_lines(self, masters: List[Redis]) -> None:
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
            channel.wake()  # what was written before hints arrived is read now

    def _hint(self, name: bytes, message_id: str) -> None:
        channel = self._channels.get(name)
        if channel:
            self._heard(channel.conversation, message_id)
            channel.wake(message_id)

    def _turned(self, connection: HintConnection, connected: bool) -> None:
        """Wake who may have missed something; look for other masters when a connection broke."""
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
