"""Measures the event loop's lag: the delay that this process itself adds to every request.

The other times that the gateway measures include a wait for Kafka or Redis, which more gateways don't make shorter.
"""

import asyncio
from typing import Optional

from kefu import metrics

EVERY_S = 0.1  # between two measurements


class LoopWatch:
    """Schedules a call every EVERY_S and measures how late it comes. Must be used in the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: Optional[asyncio.TimerHandle] = None
        self._due = 0.0

    def start(self) -> None:
        """Start measuring the event loop's lag."""
        self._due = self._loop.time() + EVERY_S
        self._timer = self._loop.call_at(self._due, self._look)

    def stop(self) -> None:
        """Stop measuring the event loop's lag."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._loop.time()
        while self._due <= now:  # also counts the calls that were missed: a request at their time waited as long
            metrics.LOOP_LATE_SECONDS.observe(now - self._due)
            self._due += EVERY_S
        self._timer = self._loop.call_at(self._due, self._look)
