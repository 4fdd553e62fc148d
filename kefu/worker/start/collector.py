"""Tunes Python's garbage collector: it is off while a worker starts, and runs rarely while it serves.

A turn leaves no reference cycles behind. The collector would still go through all live objects again and again to look
for cycles. With 10,000 turns in memory that took half a second each time, and a third of the CPU of all turns.
"""

import ctypes
import gc
import sys
import time
from typing import Callable

# For `gc.set_threshold`: the youngest generation is collected after 10,000 net new objects. The other two are never
# collected by count, but by `Housekeeping`. Cyclic garbage of that amount, if there is any, takes a few MB.
THRESHOLDS = (10_000, 1_000_000, 1_000_000)
WHEN_IDLE_S = 600.0  # the time between two calls of `tidy`, if the worker is idle then
ANYWAY_S = 3600.0  # the longest time between two calls of `tidy`, even if the worker is busy
A_MOMENT_S = 1.0  # replaces WHEN_IDLE_S after a call of `soon`
SOON_S = 10.0  # replaces ANYWAY_S after a call of `soon`
# Blocks of this size and more go back to the system as soon as they are freed. By default glibc raises the limit up to
# 32 MB and keeps the holes, among them the tens of MB that a model needs while it is loaded. Source: man 3 mallopt,
# M_MMAP_THRESHOLD
LARGE_BYTES = 4 * 2**20
# Free memory that is kept at the heap's end. With glibc's default, 128 kB, memory would be requested again and again.
KEPT_FREE_BYTES = 16 * 2**20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def hold() -> None:
    """Switch the collector off until `settle`, because almost all objects of a start stay. Also sets glibc's limits."""
    gc.disable()
    if _LIBC is not None and hasattr(_LIBC, "mallopt"):  # only glibc has it
        _LIBC.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        _LIBC.mallopt(_M_TRIM_THRESHOLD, KEPT_FREE_BYTES)


def settle() -> None:
    """Exclude the start's objects from collection, and collect rarely from now on. Takes a fifth of a second."""
    tidy()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()


def tidy() -> None:
    """Collect all objects once, and give free memory back to the system. The process stands still meanwhile."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    if _LIBC is not None and hasattr(_LIBC, "malloc_trim"):  # only glibc has it
        _LIBC.malloc_trim(0)


class Housekeeping:
    """Decides when the worker calls `tidy`: after WHEN_IDLE_S if it is idle, after ANYWAY_S in any case."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wait(WHEN_IDLE_S, ANYWAY_S)

    def soon(self) -> None:
        """Bring the next call of `tidy` forward, because much memory becomes free soon: that of a replaced model."""
        self._wait(A_MOMENT_S, SOON_S)

    def due(self, busy: bool) -> bool:
        """Return whether to call `tidy` now. If so, the time until the next call counts from now."""
        if self._clock() < (self._anyway if busy else self._when_idle):
            return False
        self._wait(WHEN_IDLE_S, ANYWAY_S)
        return True

    def _wait(self, when_idle_s: float, anyway_s: float) -> None:
        now = self._clock()
        self._when_idle, self._anyway = now + when_idle_s, now + anyway_s
