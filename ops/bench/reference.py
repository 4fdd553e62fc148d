"""The reference: a fixed piece of Python that runs beside a measurement. Its CPU time shows how fast the machine is."""

import statistics
import threading
import time
from types import TracebackType
from typing import List, Optional, Type

# CPU figures are normalised to this time of the piece, which is its time when DESIGN.md's figures were measured.
REFERENCE_MS = 42.0
EVERY_S = 0.25  # between two runs of a part of the piece
# The piece is run in this many parts, one at a time. That takes 2 % of a core, so it hardly disturbs the measurement.
PARTS = 8
_PART = range(200_000, 250_000)


class Pace:
    """A context in which the reference runs in a thread beside the code of the `with` block."""

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
        """The mean CPU time of the whole piece, in ms. The mean counts a slow phase by its length."""
        return PARTS * statistics.fmean(self._took_ms)

    def _sample(self) -> None:
        while True:
            began = time.thread_time()
            sum(n * n % 7 for n in _PART)
            self._took_ms.append((time.thread_time() - began) * 1000)
            if self._over.wait(EVERY_S):
                return
