"""The Redis servers of the store: runs commands and scripts on the master of a key, and tells when it is away.

In: commands, named by a key. Out: their answers, or StoreUnavailable for whatever passes: a server that is down,
failing over, or moving a slot.
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

# A server that is there but can't serve now, or no more: redis-py has a class for some of these answers,
# and leaves the prefix to the others. ASK and TRYAGAIN: the slot is being moved, which takes a moment.
# Source: Redis, error prefixes; redis-py 4.6, EXCEPTION_CLASSES.
_PASSING_KINDS = (OutOfMemoryError, ReadOnlyError, NoPermissionError)
_CLUSTER_PREFIXES = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
_DEMOTED = "WAIT cannot be used with replica"  # it was the master when the batch left
_PASSING_PREFIXES = ("MISCONF", "NOREPLICAS", "BUSY", "MASTERDOWN", "EXECABORT", _DEMOTED, *_CLUSTER_PREFIXES)

_CONNECTED = re.compile(rb"connected_slaves:(\d+)")
_HISTORY = re.compile(rb"master_replid:([0-9a-f]+)")  # another one after a failover or a restart


class Servers:
    """The masters that the URL of the settings names. Every method raises StoreUnavailable when one is away."""

    def __init__(self, settings: RedisSettings) -> None:
        """Prepare; connects at the first call."""
        self.redis = connect(settings)
        self._prefix, self._wait_replicas = settings.key_prefix, settings.wait_replicas
        self._replicas_counted = False
        self._batches = Batches(settings.timeout_s * 2, settings.wait_replicas)

    async def on(self, key: str, *commands: Command, sure: bool = False) -> List[Any]:
        """Run commands on the master that holds a key; returns their answers.

        Args:
            key: names the server.
            commands: leave together, in this order.
            sure: waits for replicas where the settings ask for it.
        """
        return await self._passing(self._answers(key, commands, sure))

    async def on_indexes(self, commands: Dict[int, Callable[[str], Command]]) -> Dict[int, Any]:
        """Run a command on the index of each partition: one round trip for all that one server holds.

        Args:
            commands: by partition; each gets the index's key.
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
        """Run a script on the server of its keys, by its digest; `before` is sent ahead of it."""
        given = (len(keys), *keys, *arguments)
        try:
            answers = await self.on(keys[0], *before, ("EVALSHA", script.digest, *given), sure=sure)
        except NoScriptError:  # a server that has just been started
            answers = await self.on(keys[0], *before, ("EVAL", script.text, *given), sure=sure)
        return answers[-1]

    def held_together(self, one: str, other: str) -> Awaitable[bool]:
        """Return whether one server holds both keys, to be awaited."""
        return self._passing(self._held_together(one, other))

    async def histories(self) -> FrozenSet[str]:
        """Return the history of each master; the answer shows that each is there, too."""
        answers = await self._passing(self._info())
        found = [match for match in map(_HISTORY.search, answers) if match is not None]
        if len(found) < len(answers):
            raise StoreUnavailable("a server does not tell its history")
        if self._wait_replicas and not self._replicas_counted:
            self._replicas_counted = True
            self._count_replicas(answers)
        return frozenset(each[1].decode() for each in found)

    async def close(self) -> None:
        """Close the connections."""
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
        """Warn where fewer replicas are waited for than there are.

        A replica that nobody waited for may become master without the write; and an old master that comes back from
        an isolation may find one that still follows it, and go on as if it were the master.
        """
        for answer in answers:
            found = _CONNECTED.search(answer)
            replicas = int(found[1]) if found else -1  # -1: the server does not say
            fields = {"replicas": replicas, "waited_for": self._wait_replicas}
            if not 0 <= replicas <= self._wait_replicas:
                logger.warning("a failover may lose writes: wait for all replicas", extra={"fields": fields})

    async def _passing(self, call: Awaitable[Any]) -> Any:
        """Await a call; an error of a server that is away or failing over becomes StoreUnavailable."""
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
    """Return whether the same call may succeed later, here or on another server."""
    return isinstance(error, _PASSING_KINDS) or str(error).startswith(_PASSING_PREFIXES)
