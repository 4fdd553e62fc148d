"""Sends the commands of many conversations to Redis in batches.

In: groups of commands, each of one caller. Out: their answers. Commands that arrive while a batch is on its way leave
with the next batch, so that batches grow with the load. A whole poll then costs one round trip, one system call and, if
the settings ask for it, one WAIT.
"""

import asyncio
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from kefu.errors import StoreUnavailable

Command = Tuple[Any, ...]

# Limits the commands in a batch; the rest waits for the next batch, so that one long read holds up fewer callers.
MAX_COMMANDS = 512
MAX_UNDER_WAY = 2  # limits the batches under way to one server; further commands wait until one is answered


class _Group(NamedTuple):
    """The commands of one caller.

    Attributes:
        commands: packed in the caller's `send`, so that a command that can't be packed is an error of this caller only.
        sure: whether to wait for replicas.
        answers: gets the answers, or an error.
    """

    commands: Sequence[bytes]
    sure: bool
    answers: "asyncio.Future[List[Any]]"


class Batches:
    """Sends callers' commands in batches. Belongs to one event loop."""

    def __init__(self, timeout_s: float, wait_replicas: int) -> None:
        """Create the batches, which are empty.

        Args:
            timeout_s: limits the time of a batch. After it each caller gets an error, and its commands may or may not
                have run.
            wait_replicas: how many replicas must have the commands of a `sure` group; 0 for none.
        """
        self._timeout_s = timeout_s
        wait: Command = ("WAIT", wait_replicas, int(timeout_s * 1000 / 2))
        self._wait: bytes = pack_command(wait)
        self._wait_replicas = wait_replicas
        self._waiting: Dict[Redis, List[_Group]] = {}
        self._under_way: Dict[Redis, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, redis: Redis, *commands: Command, sure: bool = False) -> List[Any]:
        """Return the answers in order. The answer to a command that Redis refused is a ResponseError.

        Raises:
            RedisError, TimeoutError, OSError: the commands may have run.
            StoreUnavailable: the commands ran, but too few replicas have them.
            TypeError: a command can't be packed; nothing ran.
        """
        packed = [pack_command(command) for command in commands]
        answers: asyncio.Future[List[Any]] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.get(redis)
        if waiting is None:
            waiting = self._waiting[redis] = []
            if self._under_way.get(redis, 0) < MAX_UNDER_WAY:
                asyncio.get_running_loop().call_soon(self._leave, redis)
        waiting.append(_Group(packed, sure and self._wait_replicas > 0, answers))
        return await answers

    def _leave(self, redis: Redis) -> None:
        """Start to send the waiting groups as one batch of up to MAX_COMMANDS; the rest goes on waiting."""
        waiting = self._waiting.pop(redis, None)
        if not waiting:
            return
        batch: List[_Group] = []
        size = 0
        while len(batch) < len(waiting) and size < MAX_COMMANDS:
            size += len(waiting[len(batch)].commands)
            batch.append(waiting[len(batch)])
        if len(batch) < len(waiting):
            self._waiting[redis] = waiting[len(batch) :]
        self._under_way[redis] = self._under_way.get(redis, 0) + 1
        task = asyncio.ensure_future(self._carry(redis, batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, redis: Redis, batch: List[_Group]) -> None:
        """Send a batch, and give each of its callers the answers or the error."""
        commands = [command for group in batch for command in group.commands]
        if any(group.sure for group in batch):
            commands.append(self._wait)
        try:
            answers = await asyncio.wait_for(_exchange(redis, commands), self._timeout_s)
        except Exception as error:  # noqa: BLE001 - each caller must get the error, whatever it is
            for group in batch:
                _fail(group, error)
        except BaseException:
            for group in batch:
                group.answers.cancel()
            raise
        else:
            self._hand_out(batch, answers)
        finally:
            self._arrive(redis)

    def _arrive(self, redis: Redis) -> None:
        """Count a batch as answered, and send the groups that have waited for that."""
        self._under_way[redis] -= 1
        if not self._under_way[redis]:
            del self._under_way[redis]  # keeps no reference to a client that is never used again
        if redis in self._waiting:
            self._leave(redis)

    def _hand_out(self, batch: List[_Group], answers: List[Any]) -> None:
        """Give each group its answers; a `sure` group gets an error if too few replicas have its commands."""
        have = answers[-1] if any(group.sure for group in batch) else 0
        at = 0
        for group in batch:
            own = answers[at : at + len(group.commands)]
            at += len(group.commands)
            if not group.sure or (isinstance(have, int) and have >= self._wait_replicas):
                if not group.answers.done():
                    group.answers.set_result(own)
            elif isinstance(have, ResponseError):
                _fail(group, have)
            else:
                _fail(group, StoreUnavailable(f"{have} replicas have the write, {self._wait_replicas} needed"))

    async def close(self) -> None:
        """Cancel the batches under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _fail(group: _Group, error: Exception) -> None:
    if not group.answers.done():
        group.answers.set_exception(error)


async def _exchange(redis: Redis, commands: List[bytes]) -> List[Any]:
    """Send commands on one connection and return their answers. A failed connection is closed."""
    pool = redis.connection_pool
    connection = await pool.get_connection("")
    try:
        await connection.send_packed_command(commands)
        answers = []
        for _ in commands:
            try:
                answers.append(await connection.read_response())
            except ResponseError as error:
                answers.append(error)
        return answers
    except BaseException:  # also when cancelled: outstanding answers would be read as those of the next commands
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
