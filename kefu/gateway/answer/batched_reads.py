"""Reads from Redis of everyone who waits, many in one round trip.

One batch is on its way to each master; what is asked for meanwhile makes the next. Alone a read costs the process
40 us, in a batch of 16 it costs 5.
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

BATCH = 256  # reads in one round trip: parsing more would hold the event loop for too long


class _Read(NamedTuple):
    key: str
    command: bytes
    answer: "asyncio.Future[Any]"


class Reads:
    """Batches reads. Who asks gets a future, which ends with StoreUnavailable when the read failed.

    Bounded by who may ask: connections that wait, and requests under way.

    Args:
        servers: where the keys lie.
        timeout_s: of a round trip.
    """

    def __init__(self, servers: Servers, timeout_s: float) -> None:
        self._servers = servers
        self._timeout_s = timeout_s
        self._queues: Dict[Redis, List[_Read]] = {}  # of the masters that a batch is on its way to
        self._unplaced: Deque[_Read] = deque()
        self._placing = False
        self._tasks: Set[asyncio.Task[None]] = set()

    def get(self, key: str) -> "asyncio.Future[Any]":
        """Ask for a string; None when there is none."""
        return self.ask(key, "GET", key)

    def range(self, stream: str, first: str, count: int) -> "asyncio.Future[Any]":
        """Ask for up to `count` entries of a stream from the id `first` on: lists of id, and of fields and values."""
        return self.ask(stream, "XRANGE", stream, first, "+", "COUNT", count)

    def ask(self, key: str, *command: Any) -> "asyncio.Future[Any]":
        """Send a command that reads `key`."""
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
        """Ask which master holds what; nothing is awaited between the last look and the end."""
        while self._unplaced:
            read = self._unplaced.popleft()
            try:
                self._queue(await self._servers.holding(read.key), read)
            except Exception as error:  # noqa: BLE001 - raised where the read was asked for
                _end(read, error)
        self._placing = False

    async def _carry(self, master: Redis) -> None:
        """Send batch after batch; nothing is awaited between the last look and the end."""
        while queue := self._queues[master]:
            batch, self._queues[master] = queue[:BATCH], queue[BATCH:]
            commands = [read.command for read in batch]
            try:
                answers = await self._exchanged(master, commands)
            except Exception as error:  # noqa: BLE001 - raised where the reads were asked for: nobody is left waiting
                answers = [error] * len(batch)
            for read, answer in zip(batch, answers, strict=True):
                _end(read, answer)
            if any(isinstance(answer, Exception) for answer in answers):
                self._servers.doubt()
        del self._queues[master]

    async def _exchanged(self, master: Redis, commands: List[bytes]) -> List[Any]:
        try:
            return await self._exchange(master, commands)
        except ConnectionError:  # after a restart of Redis pooled connections are dead
            return await self._exchange(master, commands)

    async def _exchange(self, master: Redis, commands: List[bytes]) -> List[Any]:
        """Send commands on one connection and return their answers, an error that Redis gave in its place.

        Past redis-py's pipeline, which costs three times as much a command.
        """
        pool = master.connection_pool
        connection = await pool.get_connection()
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.send_packed_command(commands)
                return [await _answer(connection) for _ in commands]
        except BaseException:  # cancelled too: answers still to come would be taken for others'
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)


async def _answer(connection: Any) -> Any:
    try:
        return await connection.read_response(timeout=math.inf)
    except ResponseError as error:
        return error


def _end(read: _Read, answer: Any) -> None:
    if read.answer.done():  # cancelled: who asked has gone
        return
    if not isinstance(answer, Exception):
        read.answer.set_result(answer)
        return
    if isinstance(answer, (TimeoutError, RedisError, OSError)):
        unavailable = StoreUnavailable(answer.__class__.__name__)
        unavailable.__cause__ = answer
        answer = unavailable
    read.answer.set_exception(answer)
