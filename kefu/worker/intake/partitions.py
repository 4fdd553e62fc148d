"""The partitions of a consumer: the messages taken and finished in each, and the offset to commit."""

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Collection, Deque, Dict, Iterable, List, Optional, Protocol, Set

from kefu.worker.intake.records import Record


@dataclass
class Partition:
    """A partition that this worker owns. The object is never reused: a partition that comes back gets a new one.

    Attributes:
        mine: whether this worker still owns the partition.
        unfinished: the offsets of the messages taken, from the lowest that is not finished, in the partition's order.
        finished: the offsets in `unfinished` that are finished while a lower one is not.
        committable: the offset to commit; None before the first message is finished.
        committed: the offset that was committed last.
        abandoned: the number of messages in `unfinished` that are left to the next owner.
    """

    number: int
    mine: bool = True
    unfinished: Deque[int] = field(default_factory=deque)
    finished: Set[int] = field(default_factory=set)
    committable: Optional[int] = None
    committed: Optional[int] = None
    abandoned: int = 0

    @property
    def load(self) -> int:
        """How many messages were taken and are neither finished nor abandoned."""
        return len(self.unfinished) - len(self.finished) - self.abandoned

    def take(self, offset: int) -> None:
        """Add a message that was taken from Kafka."""
        self.unfinished.append(offset)

    def done(self, offset: int) -> None:
        """Mark a message as finished. The offset to commit moves up to the lowest unfinished message."""
        self.finished.add(offset)
        while self.unfinished and self.unfinished[0] in self.finished:
            first = self.unfinished.popleft()
            self.finished.remove(first)
            self.committable = first + 1


class Taker(Protocol):
    """The part of the intake that a message reports to."""

    def done(self, taken: "Taken") -> None:
        """Count a message as finished: stored and published."""

    def abandoned(self, taken: "Taken") -> None:
        """Count a message as left to the next owner of its partition."""


@dataclass
class Taken:
    """A record with its partition and its consumer, which the worker may replace before the message is finished."""

    record: Record
    partition: Partition
    intake: Taker

    def mine(self) -> bool:
        """Return whether this worker still owns the partition."""
        return self.partition.mine


class Partitions:
    """All partitions of one consumer. The thread that polls and the event loop's thread both use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._partitions: Dict[int, Partition] = {}
        self.inflight = 0  # messages taken and not finished, including those of revoked partitions
        self.served = 0  # messages finished since the start

    def numbers(self) -> List[int]:
        """Return the numbers of the partitions that this worker owns, sorted."""
        with self._lock:
            return sorted(self._partitions)

    def get(self, number: int) -> Optional[Partition]:
        """Return a partition; None if it is not this worker's."""
        return self._partitions.get(number)

    def loads(self) -> Dict[int, int]:
        """Return how many messages of each partition are in flight."""
        with self._lock:
            return {number: partition.load for number, partition in self._partitions.items()}

    def add(self, numbers: Iterable[int]) -> None:
        """Add assigned partitions, each with nothing taken."""
        with self._lock:
            for number in numbers:
                self._partitions[number] = Partition(number)

    def leave(self, numbers: Iterable[int]) -> None:
        """Mark partitions as no longer this worker's, so that none of their messages begins."""
        with self._lock:
            for number in self._partitions.keys() & set(numbers):
                self._partitions[number].mine = False

    def running(self, numbers: Iterable[int]) -> bool:
        """Return whether messages of these partitions are in flight."""
        loads = self.loads()
        return any(loads.get(number, 0) > 0 for number in numbers)

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove revoked partitions. Their turns under way may still end."""
        with self._lock:
            for number in numbers:
                partition = self._partitions.pop(number, None)
                if partition is not None:
                    partition.mine = False

    def take(self, batch: Collection[Taken]) -> None:
        """Count the messages of a poll as in flight."""
        with self._lock:
            for taken in batch:
                taken.partition.take(taken.record.offset)
            self.inflight += len(batch)

    def done(self, taken: Taken) -> None:
        """Count a message as finished, so that its offset can be committed."""
        with self._lock:
            self.inflight -= 1
            self.served += 1
            taken.partition.done(taken.record.offset)

    def abandoned(self, taken: Taken) -> None:
        """Count a message as left to the next owner of its partition; its offset stays uncommitted."""
        with self._lock:
            self.inflight -= 1
            taken.partition.abandoned += 1

    def commit(self, only: Optional[Set[int]]) -> Dict[int, int]:
        """Return the offsets to commit that have moved since the last call.

        The offsets count as committed until `commit_failed` is called.

        Args:
            only: the partitions to look at; None for all.
        """
        with self._lock:
            due = [
                partition
                for partition in self._partitions.values()
                if partition.committable not in (None, partition.committed)
                and (only is None or partition.number in only)
            ]
            for partition in due:
                partition.committed = partition.committable
            return {partition.number: partition.committable for partition in due}  # type: ignore[misc]

    def commit_failed(self, numbers: Iterable[int]) -> None:
        """Let `commit` return the offsets of these partitions again. Otherwise an idle partition would lag for ever."""
        with self._lock:
            for number in numbers:
                if number in self._partitions:
                    self._partitions[number].committed = None
