"""Hints from Redis that a conversation has something new: one connection a master, one channel a conversation.

A hint may be lost (Redis restarts, the connection breaks), so whoever watches reads the stored
state after subscribing, at every wake-up, and every POLL_S anyway.
"""

import asyncio
from contextlib import asynccontextmanager
from typing import AsyncIterator, Dict, List, Optional, Set

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kefu import metrics
from kefu.errors import StoreUnavailable
from kefu.gateway.line import Line
from kefu.gateway.redis_client import Nodes, Servers
from kefu.keys import ConversationKeys

POLL_S = 2.0
CONFIRM_S = 1.0  # how long a watcher waits for its subscription; past it, polling finds the answer
MAP_S = 2.0  # how often a cluster that doesn't answer is asked for its masters
MAX_HINTED = 256


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
        self.line: Optional[Line] = None


class Hub:
    """Subscribes while somebody watches, wakes the watchers. `servers` must not retry by themselves."""

    def __init__(self, servers: Servers, prefix: str) -> None:
        self._servers = servers
        self._prefix = prefix
        self._channels: Dict[bytes, _Channel] = {}
        self._lines: Dict[Redis, Line] = {}
        self._placed = -1  # the version of the servers' map that the channels were placed by
        self._broken = asyncio.Event()
        self._task: Optional[asyncio.Task[None]] = None
        self.closed = False

    @property
    def connected(self) -> bool:
        """Whether hints come from every master."""
        return bool(self._lines) and all(line.connected for line in self._lines.values())

    @property
    def subscribed(self) -> Set[bytes]:
        """The channels that are confirmed now."""
        return {name for line in self._lines.values() for name in line.live}

    def start(self) -> None:
        """Connect, now and again, until `close`."""
        self._task = asyncio.create_task(self._run(), name="masters")

    def release(self) -> None:
        """Let everyone who waits go: they find `closed` set."""
        self.closed = True
        for channel in list(self._channels.values()):
            _wake(channel)

    async def close(self) -> None:
        """Release all and drop the connections."""
        self.release()
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(line.stop() for line in self._lines.values()))

    @asynccontextmanager
    async def watch(self, conversation: str) -> AsyncIterator[Watch]:
        """Watch a conversation; the subscription stands (or CONFIRM_S are over) when this is entered."""
        name = ConversationKeys(self._prefix, conversation).hint.encode()
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel()
            self._place(name, channel)
        watch = Watch()
        channel.watches.add(watch)
        metrics.HINT_CHANNELS.set(len(self._channels))
        try:
            line = channel.line
            if line and line.connected and name not in line.live:
                await self._confirmed(channel)
            yield watch
        finally:
            channel.watches.discard(watch)
            if not channel.watches and self._channels.get(name) is channel:
                del self._channels[name]
                _drop(name, channel)
            metrics.HINT_CHANNELS.set(len(self._channels))

    @staticmethod
    async def _confirmed(channel: _Channel) -> None:
        try:
            await asyncio.wait_for(channel.confirmed.wait(), CONFIRM_S)
        except TimeoutError:
            pass

    def _place(self, name: bytes, channel: _Channel) -> None:
        """Subscribe a channel where its conversation lies, as far as that is known."""
        holder = self._servers.holder(name)
        line = self._lines.get(holder) if holder else None
        if line is channel.line:
            return
        _drop(name, channel)
        channel.line = line
        if line:
            line.wanted.add(name)
            line.change()

    async def _run(self) -> None:
        """Keep a line to each master; a broken one is the reason to ask who they are."""
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

    async def _set_lines(self, masters: List[Redis]) -> None:
        gone = [self._lines.pop(redis) for redis in list(self._lines) if redis not in masters]
        for redis in masters:
            if redis not in self._lines:
                sharded = isinstance(self._servers, Nodes)
                line = self._lines[redis] = Line(redis, sharded, self._confirm, self._hint, self._turned)
                line.start()
        if self._placed != self._servers.version:
            self._placed = self._servers.version
            for name, channel in list(self._channels.items()):
                self._place(name, channel)
        for line in gone:
            await line.stop()

    def _confirm(self, name: bytes) -> None:
        channel = self._channels.get(name)
        if channel:
            channel.confirmed.set()

    def _hint(self, name: bytes, message_id: str) -> None:
        channel = self._channels.get(name)
        for watch in channel.watches if channel else ():
            watch.wake(message_id)

    def _turned(self, line: Line, connected: bool) -> None:
        """Wake who may have missed something; look for other masters when a line broke."""
        for name in line.wanted:
            channel = self._channels[name]
            if connected:
                _wake(channel)  # what was hinted while nobody listened is read now
            else:
                channel.confirmed.clear()
        if not connected:
            self._servers.doubt()
            self._broken.set()


def _wake(channel: _Channel) -> None:
    for watch in channel.watches:
        watch.wake()


def _drop(name: bytes, channel: _Channel) -> None:
    if channel.line:
        channel.line.wanted.discard(name)
        channel.line.change()
        channel.line = None
    channel.confirmed.clear()
