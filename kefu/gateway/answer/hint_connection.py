"""A connection to one Redis master that subscribes to the hints of that master's conversations.

In: the channels to subscribe to, one for each conversation. Out: callbacks for a hint, for an opened connection and for
a broken one. It reconnects until it is stopped.
"""

import asyncio
import logging
import math
from collections import Counter
from typing import Callable, Dict, Iterable, List, Optional, Set

from redis.asyncio import Connection, Redis
from redis.exceptions import RedisError

from kefu import metrics
from kefu.redis_cluster import slot_of

logger = logging.getLogger(__name__)

PING_S = 5.0  # between two pings on the connection
SILENCE_S = 3 * PING_S  # longest time without a message, pongs included; beyond it the connection counts as dead
MAX_BACKOFF_S = 2.0  # longest wait before the next attempt to connect
SUBSCRIBE_BATCH = 500  # limits the channels of one command; the rest goes into further commands


class SlotTaken(ConnectionError):
    """The Redis master has unsubscribed a channel by itself, because its slot has moved to another master."""


class HintConnection:
    """Keeps the subscriptions of one connection equal to `wanted`, which only `want` and `drop` change.

    Reads a connection of redis-py's pool directly: redis-py's PubSub takes 10 us a hint, this takes 3.

    Args:
        redis: a client that must not retry by itself.
        sharded: True for a cluster's master, where one command may name channels of one slot only.
        confirmed: called with each channel whose subscription the server has confirmed.
        hinted: called with a channel and the message id that came on it.
        turned: called with True when the connection has opened, with False when it broke.

    Attributes:
        wanted: the channels that shall be subscribed.
        live: the channels whose subscription the server has confirmed.
    """

    def __init__(
        self,
        redis: Redis,
        sharded: bool,
        confirmed: Callable[[bytes], None],
        hinted: Callable[[bytes, str], None],
        turned: "Callable[[HintConnection, bool], None]",
    ) -> None:
        self.wanted: Set[bytes] = set()
        self.live: Set[bytes] = set()
        self.connected = False
        self._redis = redis
        self._sharded = sharded
        self._confirmed = confirmed
        self._hinted = hinted
        self._turned = turned
        self._changes: Dict[bytes, None] = {}  # channels added or dropped since `_subscribe` last sent commands
        self._changed = asyncio.Event()
        self._leaving: Counter[bytes] = Counter()  # unsubscriptions that the server has not confirmed yet, by channel
        self._heard_at = 0.0  # when the last message came
        self._task: Optional[asyncio.Task[None]] = None

    def start(self) -> None:
        """Connect, and reconnect after each break, until `stop`."""
        self._task = asyncio.create_task(self._run(), name="hints")

    async def stop(self) -> None:
        """Close the connection."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def want(self, name: bytes) -> None:
        """Subscribe to a channel; the command is sent in the background."""
        self.wanted.add(name)
        self._changes[name] = None
        self._changed.set()

    def drop(self, name: bytes) -> None:
        """Unsubscribe from a channel; the command is sent in the background."""
        self.wanted.discard(name)
        self._changes[name] = None
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
        pool = self._redis.connection_pool
        connection, tasks = await pool.get_connection(), []
        try:
            self.connected = True
            self._heard_at = asyncio.get_running_loop().time()
            self._changes = dict.fromkeys(self.wanted)
            self._changed.set()
            self._turned(self, True)
            tasks = [asyncio.create_task(self._subscribe(connection)), asyncio.create_task(self._read(connection))]
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await connection.disconnect(nowait=True)
            await pool.release(connection)

    async def _subscribe(self, connection: Connection) -> None:
        """Keep the connection's subscriptions equal to `wanted`; ping it, and raise TimeoutError when it is silent."""
        subscribed: Set[bytes] = set()
        loop = asyncio.get_running_loop()
        ping_at = loop.time() + PING_S
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), max(0.0, ping_at - loop.time()))
            except TimeoutError:
                if loop.time() - self._heard_at > SILENCE_S:
                    raise TimeoutError("no pong on the connection for hints") from None
                ping_at = loop.time() + PING_S
                await connection.send_command("PING")
            self._changed.clear()
            changes, self._changes = self._changes, {}
            for batch in self._batches(name for name in changes if name in self.wanted and name not in subscribed):
                subscribed.update(batch)
                await connection.send_command("SSUBSCRIBE", *batch)
            for batch in self._batches(name for name in changes if name not in self.wanted and name in subscribed):
                subscribed.difference_update(batch)
                self.live.difference_update(batch)
                self._leaving.update(batch)
                await connection.send_command("SUNSUBSCRIBE", *batch)

    async def _read(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            message = await connection.read_response(timeout=math.inf, push_request=True)
            self._heard_at = loop.time()
            if not isinstance(message, list):  # a pong
                continue
            kind, name = message[0], message[1]
            if kind == b"smessage":
                metrics.HINTS.inc()
                self._hinted(name, message[2].decode(errors="replace"))
            elif kind == b"ssubscribe" and name in self.wanted:
                self.live.add(name)
                self._confirmed(name)
            elif kind == b"sunsubscribe":
                self._left(name)

    def _left(self, name: bytes) -> None:
        """Count a confirmed unsubscription. Raises SlotTaken if this connection has not asked for it."""
        if self._leaving[name] <= 0:
            raise SlotTaken
        self._leaving[name] -= 1
        if not self._leaving[name]:
            del self._leaving[name]

    def _batches(self, names: Iterable[bytes]) -> "List[List[bytes]]":
        """Return the channels in groups that one command may name."""
        if not self._sharded:
            listed = list(names)
            return [listed[n : n + SUBSCRIBE_BATCH] for n in range(0, len(listed), SUBSCRIBE_BATCH)]
        by_slot: Dict[int, List[bytes]] = {}
        for name in names:
            by_slot.setdefault(slot_of(name), []).append(name)
        return list(by_slot.values())
