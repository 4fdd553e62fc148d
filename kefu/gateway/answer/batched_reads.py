"""Sends the reads of all waiting requests to Redis in batches: many reads share one round trip.

Each Redis master has at most one batch on its way; reads that come meanwhile form the next batch. A single read costs
the gateway 40 us of CPU, a read in a batch of 16 costs 5.
"""

import asyncio
import math
from collections import deque
from typing import Any, Deque, Dict, List, NamedTuple, Set

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, RedisError, ResponseError

from kefu.errors import StoreUnavailable
from kefu.gateway.answer.redis_client import Servers

BATCH = 256  # limits the reads of one round trip, because parsing more holds up the event loop; the rest waits


class _Read(NamedTuple):
    """A read command, the key that selects its master, and the future of its answer."""

    key: str
    command: bytes
    answer: "asyncio.Future[Any]"


class Reads:
    """Batches reads. The reading methods return a future, which raises StoreUnavailable when the read failed.

    The queues need no limit of their own, because open requests and waiting connections are limited already.

    Args:
        servers: the Redis servers with the keys.
        timeout_s: time limit of one round trip.
    """

    def __init__(self, servers: Servers, timeout_s: float) -> None:
        self._servers = servers
        self._timeout_s = timeout_s
        # By Redis master, the reads of its next batch. A master is in here only while it has a batch under way.
        self._queues: Dict[Redis, List[_Read]] = {}
        self._unplaced: Deque[_Read] = deque()  # reads whose master is not known yet
        self._placing = False  # whether `_place` runs
        self._tasks: Set[asyncio.Task[None]] = set()

    def get(self, key: str) -> "asyncio.Future[Any]":
        """Read a string; the result is None when the key is missing."""
        return self.ask(key, "GET", key)

    def range(self, stream: str, first: str, count: int) -> "asyncio.Future[Any]":
        """Read up to `count` entries of a stream, from the id `first` on; an entry is its id and a list of fields."""
        return self.ask(stream, "XRANGE", stream, first, "+", "COUNT", count)

    def ask(self, key: str, *command: Any) -> "asyncio.Future[Any]":
        """Queue a command that reads `key`; the future's result is its answer."""
        read = _Read(key, pack_command(command), asyncio.get_running_loop().create_future())
        master = self._servers.known(key)
        if master is not None:
            self._queue(master, read)
            return read.answer
        self._unplaced.append(read)
        if not self._placing:
            self._placing = True
            self._start(self._place())
        return read.answer

    def _queue(self, master: Redis, read: _Read) -> None:
        queue = self._queues.get(master)
        if queue is None:
            self._queues[master] = [read]
            self._start(self._carry(master))
        else:
            queue.append(read)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name="reads")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _place(self) -> None:
        """Find the masters of the unplaced reads, and queue the reads there.

        Nothing is awaited between the loop's last check and `_placing = False`, so no read is left behind.
        """
        while self._unplaced:
            read = self._unplaced.popleft()
            try:
                self._queue(await self._servers.holding(read.key), read)
            except Exception as error:  # noqa: BLE001 - raised by the read's future
                _end(read, error)
        self._placing = False

    async def _carry(self, master: Redis) -> None:
        """Send batches to a master until its queue is empty.

        Nothing is awaited between the loop's last check and the removal of the queue, so no read is left behind.
        """
        while queue := self._queues[master]:
            batch, self._queues[master] = queue[:BATCH], queue[BATCH:]
            commands = [read.command for read in batch]
            try:
                answers = await self._exchanged(master, commands)
            except Exception as error:  # noqa: BLE001 - raised by the reads' futures, so that none stays pending
                answers = [error] * len(batch)
            for read, answer in zip(batch, answers, strict=True):
                _end(read, answer)
            if any(isinstance(answer, Exception) for answer in answers):
                self._servers.doubt()
        del self._queues[master]

    async def _exchanged(self, master: Redis, commands: List[bytes]) -> List[Any]:
        """Return the answers of `_exchange`, which is tried twice if the connection is lost."""
        try:
            return await self._exchange(master, commands)
        except ConnectionError:  # pooled connections are dead after a restart of Redis; the second try opens a new one
            return await self._exchange(master, commands)

    async def _exchange(self, master: Redis, commands: List[bytes]) -> List[Any]:
        """Send commands on one connection and return their answers; an error reply of Redis stands as its own answer.

        Doesn't use redis-py's pipeline: that costs three times as much CPU a command.
        """
        pool = master.connection_pool
        connection = await pool.get_connection()
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.send_packed_command(commands)
                return [await _answer(connection) for _ in commands]
        except BaseException:  # also when cancelled: the answers to come would be taken for those of later reads
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)


async def _answer(connection: Any) -> Any:
    """Return the next answer on a connection; an error reply of Redis is returned, not raised."""
    try:
        return await connection.read_response(timeout=math.inf)
    except ResponseError as error:
        return error


def _end(read: _Read, answer: Any) -> None:
    """Complete a read's future with its answer, or with an error."""
    if read.answer.done():  # the request that waited for it was cancelled
        return
    if not isinstance(answer, Exception):
        read.answer.set_result(answer)
        return
    if isinstance(answer, (TimeoutError, RedisError, OSError)):
        unavailable = StoreUnavailable(answer.__class__.__name__)
        unavailable.__cause__ = answer
        answer = unavailable
    read.answer.set_exception(answer)
