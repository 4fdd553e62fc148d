"""Writes turns again that Redis has acknowledged and lost, from their records in Kafka. See ops/decisions/0003.

In: the partitions of this worker, and the history (replication id) of the Redis server that a tracker was read from.
A server that takes over after a failover, or restarts, has a new history. A partition is in doubt (Redis may lack
writes of its conversations) if it was just assigned, or if a server's history is new. The doubt ends when the last
records of `answer.generated` and `dialogue.events` have been compared with the store.
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

AT_ONCE = 256  # limits the conversations whose stored versions are read at a time; the rest is read after them
Histories = FrozenSet[str]
Rearm = Callable[[str, int], Awaitable[None]]


class Mender:
    """Tracks which partitions are in doubt, and mends them. Belongs to the worker's event loop."""

    def __init__(
        self, conversations: Conversations, tail: PublishedTail, assigned: Callable[[], List[int]], rearm: Rearm
    ) -> None:
        """Create the mender; every partition is in doubt.

        Args:
            conversations: the store.
            tail: reads the records that were published last.
            assigned: returns the partitions that this worker owns now.
            rearm: puts a mended conversation's timers back into the index of its partition.
        """
        self._conversations = conversations
        self._tail = tail
        self._assigned = assigned
        self._rearm = rearm
        self._mended: Dict[int, Histories] = {}  # by partition, the servers' histories for which it was mended
        self._doubted: Set[int] = set()  # partitions doubted since the current mending began
        self._mending = asyncio.Lock()
        self._background: Optional[asyncio.Task[None]] = None
        self.histories: Histories = frozenset()  # of all masters, as of the last look

    async def look(self) -> None:
        """Read the servers' histories, and start to mend the partitions in doubt, before a message has to wait for it.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        self.histories = await self._conversations.histories()
        idle = self._background is None or self._background.done()
        if idle and self._in_doubt(self.histories):
            self._background = asyncio.ensure_future(self._mend_unasked(self.histories))

    async def stop(self) -> None:
        """Stop mending. The next owner mends the partitions that are still in doubt."""
        if self._background is not None:
            self._background.cancel()
            await asyncio.gather(self._background, return_exceptions=True)

    async def ensure(self, partition: int, history: str) -> bool:
        """Mend a partition, if it is in doubt by this history, before a tracker read from that server is used.

        Returns:
            Whether the partition was in doubt. Then the tracker may be older than the store is now: read it again.

        Raises:
            StoreUnavailable, QueueUnavailable: Redis or Kafka does not answer; call again.
        """
        if history in self._mended.get(partition, ()):
            return False
        async with self._mending:
            if history not in self._mended.get(partition, ()):
                self.histories = await self._conversations.histories()
                await self._mend(self.histories | {history})
        return True

    def in_doubt(self, partition: int) -> bool:
        """Return whether a partition is in doubt by the last look at the servers."""
        return partition not in self._mended or not self.histories <= self._mended[partition]

    async def settle(self, partition: int) -> None:
        """Mend a partition, if it is in doubt by any master's history. Raises as `ensure` does.

        Called before a turn begins, and before a dead letter's marker is written: that conversation was not read, so no
        single history is known for it.
        """
        for history in await self._conversations.histories():
            await self.ensure(partition, history)

    def doubt(self, partition: int) -> None:
        """Put a partition in doubt, so that it is mended before the next tracker is read.

        A mending under way does not end this doubt, because it may have read Kafka before.
        """
        self._doubted.add(partition)
        self._mended.pop(partition, None)

    def forget(self, partitions: Iterable[int]) -> None:
        """Put revoked partitions in doubt. Another worker writes there now, so they are mended if they come back."""
        for partition in partitions:
            self.doubt(partition)

    def _in_doubt(self, histories: Histories) -> List[int]:
        return [each for each in self._assigned() if not histories <= self._mended.get(each, frozenset())]

    async def _mend_unasked(self, histories: Histories) -> None:
        """Mend in the background, although no message waits for it yet."""
        try:
            async with self._mending:
                await self._mend(histories)
        except (StoreUnavailable, QueueUnavailable) as error:  # the next look begins again
            logger.warning("mending put off", extra={"fields": {"error": str(error)}})

    async def _mend(self, histories: Histories) -> None:
        """Write the published turns that are not stored. `histories` must have been read before the call."""
        self._doubted.clear()
        partitions = self._in_doubt(histories)
        published = await _in_thread(self._tail.newest, partitions)
        behind = await self._behind(published)
        if behind:
            turns = await _in_thread(self._tail.turns, partitions, behind)
            for conversation, version in behind.items():
                await self._bring_up(conversation, version, turns.get(conversation, []), published[conversation])
            fields = {"conversations": len(behind), "partitions": partitions}
            logger.error("the store lost writes; written again from Kafka", extra={"fields": fields})
        for partition in partitions:
            if partition not in self._doubted:
                self._mended[partition] = histories

    async def _behind(self, published: Dict[str, Newest]) -> Dict[str, int]:
        """Return the stored versions of the conversations whose published version is higher."""
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
        """Bring one conversation up to date. An error of one conversation does not stop the others."""
        try:
            for turn in turns:
                await self._write(conversation, version, turn)
                version = turn.version + 1
            await self._rearm(conversation, newest.partition)
        except (StoreUnavailable, QueueUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - a broken state may raise anything
            fields = {"error": error.__class__.__name__, "version": version, "published": newest.version}
            logger.error("a conversation can't be mended", extra={"fields": fields})

    async def _write(self, conversation: str, version: int, turn: TurnWrite) -> None:
        """Write one published turn. Turns between the stored version and this turn that Kafka lacks are skipped."""
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
