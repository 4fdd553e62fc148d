"""The reference: one same piece of Python, whose CPU time says how fast the machine is meanwhile, shared as it is."""

import statistics
import threading
import time
from types import TracebackType
from typing import List, Optional, Type

# The pace that CPU figures are told at: that of the hour in which DESIGN.md's figures were measured.
REFERENCE_MS = 42.0
EVERY_S = 0.25
# An eighth of the piece is run at a time: 2 % of a core, so that what is measured beside it hardly notices.
PARTS = 8
_PART = range(200_000, 250_000)


class Pace:
    """Runs the reference beside what is done within its `with`, in a thread of its own."""

    def __init__(self) -> None:
        self._took_ms: List[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="pace", daemon=True)

    def __enter__(self) -> "Pace":
        self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def reference_ms(self) -> float:
        """The CPU time that the whole piece took, in ms: the mean, for a slow moment counts by its length."""
        return PARTS * statistics.fmean(self._took_ms)

    def _sample(self) -> None:
        while True:
            began = time.thread_time()
            sum(n * n % 7 for n in _PART)
            self._took_ms.append((time.thread_time() - began) * 1000)
            if self._over.wait(EVERY_S):
                return
