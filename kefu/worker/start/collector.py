"""What a worker gives back: Python's garbage collector does nothing while it starts, and little while it serves.

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
THRESHOLDS = (10_000, 1_000_000, 1_000_000)
WHEN_IDLE_S = 600.0
ANYWAY_S = 3600.0
A_MOMENT_S = 1.0
SOON_S = 10.0
# From this size on memory is the system's again at once. By itself glibc goes up to 32 MB and keeps the holes, among
# them the tens of MB that a model needs while it is loaded. Source: man 3 mallopt, M_MMAP_THRESHOLD
LARGE_BYTES = 4 * 2**20
KEPT_FREE_BYTES = 16 * 2**20  # at the heap's end; glibc's 128 kB would be asked for again and again
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def hold() -> None:
    """Collect nothing until `settle`: almost all that a start makes stays."""
    gc.disable()
    if _LIBC is not None and hasattr(_LIBC, "mallopt"):  # glibc's alone
        _LIBC.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        _LIBC.mallopt(_M_TRIM_THRESHOLD, KEPT_FREE_BYTES)


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
        """Note that there is something to give back in a moment, as an old model once nobody holds it."""
        self._wait(A_MOMENT_S, SOON_S)

    def due(self, busy: bool) -> bool:
        """Return whether to tidy up now. If so, the next time is counted from here."""
        if self._clock() < (self._anyway if busy else self._when_idle):
            return False
        self._wait(WHEN_IDLE_S, ANYWAY_S)
        return True

    def _wait(self, when_idle_s: float, anyway_s: float) -> None:
        now = self._clock()
        self._when_idle, self._anyway = now + when_idle_s, now + anyway_s
