"""Back pressure: decides when a consumer polls again, and which of its partitions are paused.

In: how many messages of each partition are in flight, and whether the worker wants to take nothing. Out: whether there
is room for a poll, and the partitions to pause. Belongs to the thread that polls.
"""

from typing import Callable, Set

from kefu.worker.intake.partitions import Partitions

# Limits the wait until fewer messages are in flight; after it the partitions with the most messages are paused.
PATIENCE_S = 0.5
ROOM_CHECK_S = 0.002  # between two checks whether there is room for a poll
# Limits the time that one check adds to the wait. If the whole process stood still, its turns could finish no message,
# so that time must not lead to a pause.
MOST_CHECK_S = 10 * ROOM_CHECK_S
# Limits all messages in flight to this many times the normal limit; beyond it all partitions are paused. A paused
# partition keeps the messages that it has taken, so partitions that get stuck one after the other add up.
MOST_LIMITS = 8


class Pressure:
    """Compares the loads of a consumer's partitions with their shares, and knows which are paused."""

    def __init__(
        self,
        partitions: Partitions,
        limit: int,
        hold: Callable[[], bool],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        """Create the back pressure of a consumer, with no partition paused.

        Args:
            partitions: of the consumer.
            limit: how many messages may be in flight.
            hold: whether to take nothing for now.
            clock: monotonic, in s.
            sleep: blocks the thread that polls for a number of seconds.
        """
        self._partitions, self._limit, self._hold = partitions, limit, hold
        self._clock, self._sleep = clock, sleep
        self.paused: Set[int] = set()

    def wait_for_room(self, stopping: Callable[[], bool]) -> bool:
        """Wait up to PATIENCE_S until there is room for a poll and no hold; return whether there is."""
        waited, now = 0.0, self._clock()
        while self._hold() or self._taken_room() >= self._limit:
            if waited > PATIENCE_S or stopping():
                return False
            self._sleep(ROOM_CHECK_S)
            before, now = now, self._clock()
            waited += min(now - before, MOST_CHECK_S)
        return True

    def to_pause(self, room: bool) -> Set[int]:
        """Return the partitions that must be paused: those with their share of messages in flight or more, or all.

        A pause throws away the messages that the client has fetched, and costs about a second. So a worker that is only
        busy pauses nothing. Partitions are paused one by one, so that one customer's slow lane stops no other
        partition. A paused partition resumes when it has half of its share in flight.

        Args:
            room: the result of `wait_for_room`; with room no further partition is paused.
        """
        loads, share = self._partitions.loads(), self._share
        everything = not room and (self._hold() or self._partitions.inflight >= MOST_LIMITS * self._limit)
        return {
            number
            for number, load in loads.items()
            if everything or (number in self.paused and load > share // 2) or (not room and load >= share)
        }

    def forget(self, numbers: Set[int]) -> None:
        """Remove partitions that this worker no longer owns from the paused ones."""
        self.paused -= numbers

    def _taken_room(self) -> int:
        """Return how many messages are in flight; a paused partition counts with at most its share."""
        loads, share = self._partitions.loads(), self._share
        return sum(min(load, share) if number in self.paused else load for number, load in loads.items())

    @property
    def _share(self) -> int:
        """A partition's part of the limit, when all partitions have many messages in flight."""
        return max(1, self._limit // max(1, len(self._partitions.numbers())))
