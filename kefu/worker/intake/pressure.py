"""Back pressure: decides when a consumer polls again, and which of its partitions are paused.

In: how many messages of each partition are in flight, and whether the worker wants to take nothing. Out: whether there
is room for a poll, and the partitions to pause. Belongs to the thread that polls.
"""

from typing import Callable, Set

from kefu.worker.intake.partitions import Partitions

PATIENCE_S = 0.5  # limits the wait for room; after it the partitions that take up the room are paused
ROOM_CHECK_S = 0.002  # between two checks for room
MOST_CHECK_S = 10 * ROOM_CHECK_S  # limits what one check adds to the wait: a process that stood still had no chance
# Limits all messages in flight, to this many times the limit; beyond it all partitions are paused. Partitions that get
# stuck one after the other would otherwise add up, since each keeps what it has taken.
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
        """Prepare.

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
        """Wait up to PATIENCE_S until there is room for a poll and no hold; return whether that came true."""
        waited, now = 0.0, self._clock()
        while self._hold() or self._taken_room() >= self._limit:
            if waited > PATIENCE_S or stopping():
                return False
            self._sleep(ROOM_CHECK_S)
            before, now = now, self._clock()
            waited += min(now - before, MOST_CHECK_S)
        return True

    def to_pause(self, room: bool) -> Set[int]:
        """Return the partitions to pause: those that leave no room for the others, or all.

        A pause throws away the messages that the client has fetched, and costs about a second. So a worker that is only
        busy pauses nothing. Each partition is paused by itself, so that one customer's slow lane stops no other
        partition. A paused partition resumes at half of its share.

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
        """Forget partitions that this worker no longer owns."""
        self.paused -= numbers

    def _taken_room(self) -> int:
        """Return how many messages are in flight; a paused partition counts with at most its share."""
        loads, share = self._partitions.loads(), self._share
        return sum(min(load, share) if number in self.paused else load for number, load in loads.items())

    @property
    def _share(self) -> int:
        """A partition's part of the limit, when all partitions have many messages in flight."""
        return max(1, self._limit // max(1, len(self._partitions.numbers())))
