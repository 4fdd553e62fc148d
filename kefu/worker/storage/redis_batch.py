"""The commands of many conversations, sent to Redis together.

In: groups of commands, each for one caller. Out: their answers. What is asked for while a batch is
on its way leaves with the next one, so that batches grow with the load: one round trip, one system
call and, where the settings ask for it, one WAIT for all of a poll.
"""

import asyncio
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from kefu.errors import StoreUnavailable

Command = Tuple[Any, ...]

MAX_COMMANDS = 512  # a batch; a reader of long conversations should not hold up too many others
MAX_UNDER_WAY = 2  # batches to one server


class _Group(NamedTuple):
    """What one caller asks for, packed by it: what can't be is its error alone. `sure`: the replicas' word too."""

    commands: Sequence[bytes]
    sure: bool
    answers: "asyncio.Future[List[Any]]"


class Batches:
    """Sends what callers ask for. Lives on one event loop."""

    def __init__(self, timeout_s: float, wait_replicas: int) -> None:
        """Prepare.

        Args:
            timeout_s: of a batch; beyond it each of its callers gets an error and must not know
                whether its commands ran.
            wait_replicas: how many replicas must have a group that has to be sure; 0 asks for none.
        """
        self._timeout_s = timeout_s
        wait: Command = ("WAIT", wait_replicas, int(timeout_s * 1000 / 2))
        self._wait: bytes = pack_command(wait)
        self._wait_replicas = wait_replicas
        self._waiting: Dict[Redis, List[_Group]] = {}
        self._under_way: Dict[Redis, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, redis: Redis, *commands: Command, sure: bool = False) -> List[Any]:
        """Return the answers, in order; one that Redis refused is a ResponseError among them.

        Raises:
            RedisError, TimeoutError, OSError: the commands may have run.
            StoreUnavailable: they ran, and too few replicas have them.
            TypeError: a command can't be sent; nothing ran.
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
        """Send all that waits, up to a batch."""
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
        commands = [command for group in batch for command in group.commands]
        if any(group.sure for group in batch):
            commands.append(self._wait)
        try:
            answers = await asyncio.wait_for(_exchange(redis, commands), self._timeout_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, each caller must learn of it
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
        self._under_way[redis] -= 1
        if not self._under_way[redis]:
            del self._under_way[redis]  # a client that is never used again is let go
        if redis in self._waiting:
            self._leave(redis)

    def _hand_out(self, batch: List[_Group], answers: List[Any]) -> None:
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
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _fail(group: _Group, error: Exception) -> None:
    if not group.answers.done():
        group.answers.set_exception(error)


async def _exchange(redis: Redis, commands: List[bytes]) -> List[Any]:
    """Send commands on one connection and return their answers; a connection that fails is closed."""
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
    except BaseException:  # cancelled too: answers still to come would be taken for others'
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
