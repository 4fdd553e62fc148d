"""Back pressure: when a consumer takes more from Kafka, and which of its partitions are paused meanwhile.

In: how many messages of each partition are in flight, and whether the worker asks to hold. Out: whether there is room
for a poll, and the partitions to pause. Belongs to the thread that polls.
"""

from typing import Callable, Set

from kefu.worker.intake.partitions import Partitions

PATIENCE_S = 0.5  # limits the wait for room; after it the partitions that take the room up are paused
ROOM_CHECK_S = 0.002
MOST_CHECK_S = 10 * ROOM_CHECK_S  # limits what a check counts as waiting: a process that stood still made no room
MOST_LIMITS = 8  # limits what is in flight, in limits: partitions stuck one after the other keep what they have taken


class Pressure:
    """The loads and shares of a consumer's partitions, and which of them are paused."""

    def __init__(
        self,
        partitions: Partitions,
        limit: int,
        hold: Callable[[], bool],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Prepare.

        Args:
            partitions: of the consumer.
            limit: how many messages to have in flight.
            hold: whether to take nothing for now.
            clock: monotonic, in s.
            sleep: waits so many seconds; blocks the thread that polls.
        """
        self._partitions, self._limit, self._hold = partitions, limit, hold
        self._clock, self._sleep = clock, sleep
        self.paused: Set[int] = set()

    def wait_for_room(self, stopping: Callable[[], bool]) -> bool:
        """Wait up to PATIENCE_S for room for a poll that nobody holds back; return whether there is."""
        waited, now = 0.0, self._clock()
        while self._hold() or self._taken_room() >= self._limit:
            if waited > PATIENCE_S or stopping():
                return False
            self._sleep(ROOM_CHECK_S)
            before, now = now, self._clock()
            waited += min(now - before, MOST_CHECK_S)
        return True

    def to_pause(self, room: bool) -> Set[int]:
        """Return the partitions to pause: those that leave no room to the others, or all.

        A pause throws away what the client has fetched, and costs about a second: a worker that is only busy pauses
        nothing. Each partition is paused by itself, so that one customer's slow lane stops no other partition; it goes
        on at half of its share.

        Args:
            room: what the wait for room came to; with room nothing more is paused.
        """
        loads, share = self._partitions.loads(), self._share
        everything = not room and (self._hold() or self._partitions.inflight >= MOST_LIMITS * self._limit)
        return {
            number
            for number, load in loads.items()
            if everything or (number in self.paused and load > share // 2) or (not room and load >= share)
        }

    def forget(self, numbers: Set[int]) -> None:
        """Note that partitions are no longer this worker's."""
        self.paused -= numbers

    def _taken_room(self) -> int:
        """Return how many messages are in flight; of a paused partition no more than its share counts."""
        loads, share = self._partitions.loads(), self._share
        return sum(min(load, share) if number in self.paused else load for number, load in loads.items())

    @property
    def _share(self) -> int:
        """How many messages in flight a partition may have when all have many."""
        return max(1, self._limit // max(1, len(self._partitions.numbers())))
