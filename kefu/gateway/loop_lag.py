"""How late the event loop is: what every request waits for that this process adds by itself, whoever else is slow.

Everything else that the gateway times has a wait for Kafka or Redis in it, which more gateways don't make shorter.
"""

import asyncio
from typing import Optional

from kefu import metrics

EVERY_S = 0.1


class LoopWatch:
    """Looks every EVERY_S how late it was called. Belongs to the thread of this event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: Optional[asyncio.TimerHandle] = None
        self._due = 0.0

    def start(self) -> None:
        """Look from now on."""
        self._due = self._loop.time() + EVERY_S
        self._timer = self._loop.call_at(self._due, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._loop.time()
        while self._due <= now:  # each that was missed too: as many requests came meanwhile, and waited
            metrics.LOOP_LATE_SECONDS.observe(now - self._due)
            self._due += EVERY_S
        self._timer = self._loop.call_at(self._due, self._look)
