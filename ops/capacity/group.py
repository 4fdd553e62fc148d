"""The consumer group: who has which partition, what waits in each, how long it waited. A fluid in steps of time."""

import math
import random
from collections import deque
from typing import Deque, Dict, List, Sequence, Tuple

from ops.capacity.pods import Pod

MANY = 30.0
Chunk = Tuple[float, float]  # when it came, how many messages


class Partition:
    """What waits, oldest first."""

    def __init__(self) -> None:
        self._chunks: Deque[Chunk] = deque()
        self.waiting = 0.0
        self.blocked_until = 0.0

    def put(self, now: float, count: float) -> None:
        """Add messages that came now."""
        if count > 0:
            self._chunks.append((now, count))
            self.waiting += count

    def take(self, count: float) -> List[Chunk]:
        """Remove up to `count` messages; returns when they came."""
        taken: List[Chunk] = []
        count = min(count, self.waiting)
        while count > 1e-9 and self._chunks:
            came, there = self._chunks.popleft()
            part = min(there, count)
            taken.append((came, part))
            count -= part
            self.waiting -= part
            if there - part > 1e-9:
                self._chunks.appendleft((came, there - part))
        return taken


class Group:
    """Partitions over pods, moved as the cooperative-sticky assignor moves them: no more than needed.

    Args:
        partitions: how many.
        rebalance_s: how long one that moves is served by nobody, and how long newcomers wait for the next one.
        conversations: how many are active at once: the fewer, the more uneven the partitions.
        seed: of how conversations fall on partitions and of how messages come.
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
        """Put messages that came now where their conversations are."""
        for partition, share in zip(self.partitions, self._shares, strict=True):
            partition.put(now, self._poisson(count * share))

    def _poisson(self, mean: float) -> float:
        """Return how many come where `mean` come in the mean. Source: Knuth's; the normal law where it is as good."""
        if mean > MANY:
            return max(0.0, self._chance.gauss(mean, mean**0.5))
        left, count = self._chance.random(), 0
        least = math.exp(-mean)
        while left > least:
            left *= self._chance.random()
            count += 1
        return float(count)

    def join(self, now: float, members: Sequence[Pod], first: bool = False) -> None:
        """Spread the partitions over the members, as soon as the last rebalance is over."""
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
        """Level the numbers of partitions; who has too many gives from his own."""
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
        """Let a pod take up to `room` messages, the same of each of its partitions that has so many."""
        open_now = [self.partitions[n] for n in pod.partitions if self.partitions[n].blocked_until <= now]
        open_now.sort(key=lambda partition: partition.waiting)
        taken: List[Chunk] = []
        for place, partition in enumerate(open_now):
            chunks = partition.take(room / (len(open_now) - place))
            room -= sum(count for _, count in chunks)
            taken += chunks
        return taken

    @property
    def waiting(self) -> float:
        """How many messages wait in all."""
        return sum(partition.waiting for partition in self.partitions)
