"""The consumer group: the owner of each partition, and the messages that wait in it. Simulated in steps of time."""

import math
import random
from collections import deque
from typing import Deque, Dict, List, Sequence, Tuple

from ops.capacity.pods import Pod

MANY = 30.0  # mean from which the normal distribution replaces Poisson's
Chunk = Tuple[float, float]  # arrival time, number of messages


class Partition:
    """The waiting messages of a partition, oldest first."""

    def __init__(self) -> None:
        self._chunks: Deque[Chunk] = deque()
        self.waiting = 0.0
        self.blocked_until = 0.0

    def put(self, now: float, count: float) -> None:
        """Add messages that arrive now."""
        if count > 0:
            self._chunks.append((now, count))
            self.waiting += count

    def take(self, count: float) -> List[Chunk]:
        """Remove up to `count` messages; return them with their arrival times."""
        chunks: List[Chunk] = []
        count = min(count, self.waiting)
        while count > 1e-9 and self._chunks:
            came, there = self._chunks.popleft()
            part = min(there, count)
            chunks.append((came, part))
            count -= part
            self.waiting -= part
            if there - part > 1e-9:
                self._chunks.appendleft((came, there - part))
        return chunks


class Group:
    """Partitions and their pods. Partitions move as by the cooperative-sticky assignor: no more than needed.

    Args:
        partitions: number of partitions.
        rebalance_s: time that a moving partition is not served, and the least time between two rebalances.
        conversations: conversations active at once; the fewer, the more uneven the partitions.
        seed: seed of the distribution of conversations and of the arrivals.
    """

    def __init__(self, partitions: int, rebalance_s: float, conversations: float, seed: int = 1) -> None:
        self.partitions = [Partition() for _ in range(partitions)]
        self._rebalance_s = rebalance_s
        self._busy_until = 0.0
        self._owner: Dict[int, Pod] = {}
        self.moved = 0
        self._chance = random.Random(seed)  # noqa: S311 - a simulation
        spread = (partitions / max(conversations, 1.0)) ** 0.5
        weights = [max(0.05, self._chance.gauss(1.0, spread)) for _ in range(partitions)]
        self._shares = [weight / sum(weights) for weight in weights]

    def arrive(self, now: float, count: float) -> None:
        """Add messages that arrive now to the partitions of their conversations."""
        for partition, share in zip(self.partitions, self._shares, strict=True):
            partition.put(now, self._poisson(count * share))

    def _poisson(self, mean: float) -> float:
        """Return a Poisson-distributed number. Source: Knuth's algorithm; above MANY the normal distribution."""
        if mean > MANY:
            return max(0.0, self._chance.gauss(mean, mean**0.5))
        left, count = self._chance.random(), 0
        least = math.exp(-mean)
        while left > least:
            left *= self._chance.random()
            count += 1
        return float(count)

    def join(self, now: float, members: Sequence[Pod], first: bool = False) -> None:
        """Distribute the partitions over the members, once the last rebalance is over. `first`: without a pause."""
        if now < self._busy_until or (set(self._owner.values()) == set(members) and self._owner) or not members:
            return
        before = dict(self._owner)
        self._spread(members)
        if first:
            return
        self._busy_until = now + self._rebalance_s
        for number, owner in self._owner.items():
            if before.get(number) is not owner:
                self.partitions[number].blocked_until = self._busy_until
                self.moved += 1

    def _spread(self, members: Sequence[Pod]) -> None:
        """Give each member the same number of partitions; only members with too many lose some."""
        wanted = list(members)
        for pod in wanted:
            pod.partitions = [n for n in pod.partitions if self._owner.get(n) is pod]
        homeless = [n for n in range(len(self.partitions)) if self._owner.get(n) not in wanted]
        least, more = divmod(len(self.partitions), len(wanted))
        by_most = sorted(wanted, key=lambda pod: -len(pod.partitions))
        for place, pod in enumerate(by_most):
            allowed = least + (place < more)
            homeless += pod.partitions[allowed:]
            pod.partitions = pod.partitions[:allowed]
        for place, pod in enumerate(by_most):
            while len(pod.partitions) < least + (place < more):
                pod.partitions.append(homeless.pop())
        self._owner = {number: pod for pod in wanted for number in pod.partitions}

    def serve(self, now: float, pod: Pod, room: float) -> List[Chunk]:
        """Let a pod take up to `room` messages, evenly from its partitions as far as these have messages."""
        open_now = [self.partitions[n] for n in pod.partitions if self.partitions[n].blocked_until <= now]
        open_now.sort(key=lambda partition: partition.waiting)
        served: List[Chunk] = []
        for place, partition in enumerate(open_now):
            chunks = partition.take(room / (len(open_now) - place))
            room -= sum(count for _, count in chunks)
            served += chunks
        return served

    @property
    def waiting(self) -> float:
        """Number of waiting messages in all partitions."""
        return sum(partition.waiting for partition in self.partitions)
