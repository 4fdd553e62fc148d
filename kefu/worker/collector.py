"""Python's garbage collector in a worker: nothing while it starts, little while it serves.

A turn leaves no cycles behind, but Python goes through all that is alive again and again to find that
out: with 10,000 turns in memory half a second each time, and a third of the CPU of all turns.
"""

import ctypes
import gc
import sys
import time
from typing import Callable

# Net new objects before the youngest are gone through; how often the middle ones are; the oldest never
# are by count but by Housekeeping. So much garbage in cycles, should there ever be any, is a few MB.
THRESHOLDS = (100_000, 1_000_000, 1_000_000)
WHEN_IDLE_S = 600.0
ANYWAY_S = 3600.0
SOON_S = 10.0
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def hold() -> None:
    """Collect nothing until `settle`: almost all that a start makes stays."""
    gc.disable()


def settle() -> None:
    """Set aside what the start has made, and collect sparingly from now on. Takes a fifth of a second."""
    tidy()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()


def tidy() -> None:
    """Go through everything once and give free memory back to the system. Stops the process meanwhile."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    if _LIBC is not None and hasattr(_LIBC, "malloc_trim"):  # glibc's alone
        _LIBC.malloc_trim(0)


class Housekeeping:
    """Knows when to tidy up: in a quiet moment, or after a while without one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wait(WHEN_IDLE_S, ANYWAY_S)

    def soon(self) -> None:
        """Note that there is something to give back, as an old model after a swap."""
        self._wait(0, SOON_S)

    def due(self, busy: bool) -> bool:
        """Return whether to tidy up now. If so, the next time is counted from here."""
        if self._clock() < (self._anyway if busy else self._when_idle):
            return False
        self._wait(WHEN_IDLE_S, ANYWAY_S)
        return True

    def _wait(self, when_idle_s: float, anyway_s: float) -> None:
        now = self._clock()
        self._when_idle, self._anyway = now + when_idle_s, now + anyway_s
