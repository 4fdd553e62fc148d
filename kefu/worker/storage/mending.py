"""Brings a Redis that lost acknowledged writes back to what was published. See ops/decisions/0003.

In: the partitions of this worker, and the history of the Redis server that a tracker was read from. A
server that takes over after a failover, or starts again, has a history of its own; so a history not
seen before, or a partition just taken over, is in doubt until the ends of `answer.generated` and
`dialogue.events` have been compared with what is stored.
"""

import asyncio
import logging
from typing import Any, Awaitable, Callable, Dict, FrozenSet, Iterable, List, Optional, Sequence, Set

from kefu import metrics
from kefu.errors import AlreadyProcessed, QueueUnavailable, StoreUnavailable, VersionConflict
from kefu.worker.conversation.stored import TurnWrite
from kefu.worker.storage.conversations import Conversations
from kefu.worker.storage.published import Newest, PublishedTail

logger = logging.getLogger(__name__)

AT_ONCE = 256  # conversations whose versions are asked for together
Histories = FrozenSet[str]
Rearm = Callable[[str, int], Awaitable[None]]


class Mender:
    """Knows which partitions are in doubt, and mends them. Lives on the worker's event loop."""

    def __init__(
        self, conversations: Conversations, tail: PublishedTail, assigned: Callable[[], List[int]], rearm: Rearm
    ) -> None:
        """Prepare.

        Args:
            conversations: the store.
            tail: what was published last.
            assigned: the partitions that are this worker's now.
            rearm: puts the timers of a mended conversation, of a partition, back into their index.
        """
        self._conversations = conversations
        self._tail = tail
        self._assigned = assigned
        self._rearm = rearm
        self._mended: Dict[int, Histories] = {}
        self._doubted: Set[int] = set()  # since the mending under way began
        self._mending = asyncio.Lock()
        self._background: Optional[asyncio.Task[None]] = None
        self.histories: Histories = frozenset()  # of all masters, as seen last

    async def look(self) -> None:
        """See which servers there are, and begin to mend what they put in doubt though nobody asks for it yet.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        self.histories = await self._conversations.histories()
        idle = self._background is None or self._background.done()
        if idle and self._in_doubt(self.histories):
            self._background = asyncio.ensure_future(self._mend_unasked(self.histories))

    async def stop(self) -> None:
        """Leave what is in doubt to whoever comes next."""
        if self._background is not None:
            self._background.cancel()
            await asyncio.gather(self._background, return_exceptions=True)

    async def ensure(self, partition: int, history: str) -> bool:
        """Mend before a tracker that was read from the server of this history is used.

        Returns:
            Whether there was a doubt: then what was read may be older than what is stored by now.

        Raises:
            StoreUnavailable, QueueUnavailable: Redis or Kafka does not answer; ask again.
        """
        if history in self._mended.get(partition, ()):
            return False
        async with self._mending:
            if history not in self._mended.get(partition, ()):
                self.histories = await self._conversations.histories()
                await self._mend(self.histories | {history})
        return True

    def in_doubt(self, partition: int) -> bool:
        """Return whether a partition is known to want mending."""
        return partition not in self._mended or not self.histories <= self._mended[partition]

    async def settle(self, partition: int) -> None:
        """Mend before a conversation is written to that was not read; raises as `ensure` does."""
        for history in await self._conversations.histories():
            await self.ensure(partition, history)

    def doubt(self, partition: int) -> None:
        """Mend this partition once more before the next tracker is read, whatever a mending under way has read."""
        self._doubted.add(partition)
        self._mended.pop(partition, None)

    def forget(self, partitions: Iterable[int]) -> None:
        """Another worker writes there now: when they come back they are in doubt."""
        for partition in partitions:
            self.doubt(partition)

    def _in_doubt(self, histories: Histories) -> List[int]:
        return [each for each in self._assigned() if not histories <= self._mended.get(each, frozenset())]

    async def _mend_unasked(self, histories: Histories) -> None:
        try:
            async with self._mending:
                await self._mend(histories)
        except (StoreUnavailable, QueueUnavailable) as error:  # the next look begins again
            logger.warning("mending put off", extra={"fields": {"error": str(error)}})

    async def _mend(self, histories: Histories) -> None:
        """Write again what is published and not stored. `histories` were there before it is read."""
        self._doubted.clear()
        partitions = self._in_doubt(histories)
        published = await _in_thread(self._tail.newest, partitions)
        behind = await self._behind(published)
        if behind:
            found = await _in_thread(self._tail.turns, partitions, behind)
            for conversation, version in behind.items():
                await self._bring_up(conversation, version, found.get(conversation, []), published[conversation])
            fields = {"conversations": len(behind), "partitions": partitions}
            logger.error("the store lost writes; written again from Kafka", extra={"fields": fields})
        for partition in partitions:
            if partition not in self._doubted:
                self._mended[partition] = histories

    async def _behind(self, published: Dict[str, Newest]) -> Dict[str, int]:
        """Return the stored versions of those conversations whose published version is above it."""
        names = list(published)
        behind = {}
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            stored = await asyncio.gather(*map(self._conversations.position, some))
            for name, (version, _) in zip(some, stored, strict=True):
                if version < published[name].version:
                    behind[name] = version
        return behind

    async def _bring_up(self, conversation: str, version: int, turns: Sequence[TurnWrite], newest: Newest) -> None:
        """Bring one conversation up to date. One that can't be must not stop the others."""
        try:
            for turn in turns:
                await self._write(conversation, version, turn)
                version = turn.version + 1
            await self._rearm(conversation, newest.partition)
        except (StoreUnavailable, QueueUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - whatever its state makes of it
            fields = {"error": error.__class__.__name__, "version": version, "published": newest.version}
            logger.error("a conversation can't be mended", extra={"fields": fields})

    async def _write(self, conversation: str, version: int, turn: TurnWrite) -> None:
        if turn.version > version:
            await self._conversations.skip(conversation, turn.version, turn.seq - len(turn.replies))
            metrics.MENDED_TURNS.labels("lost").inc(turn.version - version)
        try:
            await self._conversations.write(conversation, turn)
            metrics.MENDED_TURNS.labels("kafka").inc()
        except (AlreadyProcessed, VersionConflict):
            logger.info("a lost turn was written by another lane or worker first")


async def _in_thread(call: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, call, *arguments)
