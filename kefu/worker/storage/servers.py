"""Runs commands and scripts on the Redis master that holds a key, and reports when that server is away.

In: commands and a key. Out: their answers; StoreUnavailable for a temporary error: a server that is down, failing over,
or moving a slot.
"""

import asyncio
import logging
import re
from typing import Any, Awaitable, Callable, Dict, FrozenSet, List, Sequence

from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from kefu.errors import StoreUnavailable
from kefu.keys import due_index
from kefu.settings import RedisSettings
from kefu.worker.storage.redis_batch import Batches, Command
from kefu.worker.storage.redis_client import connect
from kefu.worker.storage.scripts import Script

logger = logging.getLogger(__name__)

# Answers of a server that can't serve for now, or is no longer the master. redis-py has an exception class for some of
# them; the others keep their prefix in the text. ASK and TRYAGAIN mean that the slot is being moved.
# Source: Redis, error prefixes; redis-py 4.6, EXCEPTION_CLASSES.
_PASSING_KINDS = (OutOfMemoryError, ReadOnlyError, NoPermissionError)
_CLUSTER_PREFIXES = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
_DEMOTED = "WAIT cannot be used with replica"  # the server was the master when the batch was sent
_PASSING_PREFIXES = ("MISCONF", "NOREPLICAS", "BUSY", "MASTERDOWN", "EXECABORT", _DEMOTED, *_CLUSTER_PREFIXES)

_CONNECTED = re.compile(rb"connected_slaves:(\d+)")
_HISTORY = re.compile(rb"master_replid:([0-9a-f]+)")  # changes with a failover or a restart


class Servers:
    """The Redis masters that REDIS_URL names. Every method raises StoreUnavailable if the server it needs is away."""

    def __init__(self, settings: RedisSettings) -> None:
        """Create the clients; a connection is opened at the first call."""
        self.redis = connect(settings)
        self._prefix, self._wait_replicas = settings.key_prefix, settings.wait_replicas
        self._replicas_counted = False
        self._batches = Batches(settings.timeout_s * 2, settings.wait_replicas)

    async def on(self, key: str, *commands: Command, sure: bool = False) -> List[Any]:
        """Run commands on the master that holds a key; return their answers.

        Args:
            key: selects the server.
            commands: are sent together, in this order.
            sure: whether to wait until as many replicas have the commands as the settings ask for.
        """
        return await self._passing(self._answers(key, commands, sure))

    async def on_indexes(self, commands: Dict[int, Callable[[str], Command]]) -> Dict[int, Any]:
        """Run a command on each partition's index of due times, in one round trip per server.

        Args:
            commands: by partition, a function from the index's key to the command.
        """

        async def run(partition: int, command: Callable[[str], Command]) -> Any:
            key = due_index(self._prefix, partition)
            (answer,) = await self.on(key, command(key))
            return answer

        answers = await asyncio.gather(*(run(partition, command) for partition, command in commands.items()))
        return dict(zip(commands, answers, strict=True))

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Any] = (),
        sure: bool = False,
        before: Sequence[Command] = (),
    ) -> Any:
        """Run a script by its digest on the server of its keys; return its answer. `before` is sent ahead of it."""
        operands = (len(keys), *keys, *arguments)
        try:
            answers = await self.on(keys[0], *before, ("EVALSHA", script.digest, *operands), sure=sure)
        except NoScriptError:  # the server has just started and doesn't know the script
            answers = await self.on(keys[0], *before, ("EVAL", script.text, *operands), sure=sure)
        return answers[-1]

    def held_together(self, one: str, other: str) -> Awaitable[bool]:
        """Return an awaitable of whether one server holds both keys."""
        return self._passing(self._held_together(one, other))

    async def histories(self) -> FrozenSet[str]:
        """Return the history (replication id) of each master. Succeeds only if every master answers."""
        answers = await self._passing(self._info())
        matches = [match for match in map(_HISTORY.search, answers) if match is not None]
        if len(matches) < len(answers):
            raise StoreUnavailable("a server does not tell its history")
        if self._wait_replicas and not self._replicas_counted:
            self._replicas_counted = True
            self._count_replicas(answers)
        return frozenset(match[1].decode() for match in matches)

    async def close(self) -> None:
        """Cancel the batches under way, and close the connections to Redis."""
        await self._batches.close()
        await self.redis.close()

    async def _answers(self, key: str, commands: Sequence[Command], sure: bool) -> List[Any]:
        answers = await self._batches.send(await self.redis.holding(key), *commands, sure=sure)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _held_together(self, one: str, other: str) -> bool:
        return await self.redis.holding(one) is await self.redis.holding(other)

    async def _info(self) -> List[bytes]:
        asked = [self._batches.send(redis, ("INFO", "replication")) for redis in await self.redis.masters()]
        answers = [answer for (answer,) in await asyncio.gather(*asked)]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _count_replicas(self, answers: Sequence[bytes]) -> None:
        """Warn if the settings wait for fewer replicas than a server has.

        If a write waits for one of two replicas only, the other replica may become the master without the write. And a
        former master that was cut off may come back, find a replica that still follows it, and go on accepting writes.
        """
        for answer in answers:
            match = _CONNECTED.search(answer)
            replicas = int(match[1]) if match else -1  # -1: the server does not say
            fields = {"replicas": replicas, "waited_for": self._wait_replicas}
            if not 0 <= replicas <= self._wait_replicas:
                logger.warning("a failover may lose writes: wait for all replicas", extra={"fields": fields})

    async def _passing(self, call: Awaitable[Any]) -> Any:
        """Await a call of Redis. An error of a server that is away or failing over becomes StoreUnavailable."""
        try:
            return await call
        except ResponseError as error:
            if not _passes(error):
                raise
            cause: Exception = error
        except (RedisError, asyncio.TimeoutError, OSError) as error:
            cause = error
        self.redis.doubt()
        raise StoreUnavailable(cause.__class__.__name__) from cause


def _passes(error: ResponseError) -> bool:
    """Return whether an error is temporary: the same call may succeed later, on this server or on another one."""
    return isinstance(error, _PASSING_KINDS) or str(error).startswith(_PASSING_PREFIXES)
