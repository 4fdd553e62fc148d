"""Limits request rates, by token buckets, and open connections, for each sender and for all senders together.

Each gateway process counts by itself, so N replicas allow N times as much. That is enough against floods.
"""

import time
from collections import Counter, OrderedDict
from contextlib import contextmanager
from typing import Callable, Iterator, Tuple

from kefu import metrics
from kefu.gateway.problems import too_soon

MAX_BUCKETS = 100_000  # limits the buckets in memory; beyond it the least recently used is dropped, so it is full again
STREAM_RETRY_S = 5  # the Retry-After of a refused connection


class Rate:
    """A token bucket for each key: `per_s` requests a second, twice as many at once; 0 for no limit."""

    def __init__(self, name: str, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._per_s = per_s
        self._burst = max(1.0, 2 * per_s)
        self._clock = clock
        self._buckets: OrderedDict[str, Tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> None:
        """Count one request of `key`.

        Raises:
            Problem: 429 with Retry-After, the bucket is empty.
        """
        if not self._per_s:
            return
        now = self._clock()
        left, seen = self._buckets.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - seen) * self._per_s)
        refused = left < 1
        self._buckets[key] = (left if refused else left - 1, now)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if refused:
            metrics.REFUSED.labels(self._name).inc()
            raise too_soon("too-many-requests", (1 - left) / self._per_s, "Slow down.")


class Slots:
    """Limits the connections that wait for replies: `total` in this process, `each` for one user."""

    def __init__(self, total: int, each: int) -> None:
        self._total = total
        self._each = each
        self._held: Counter[str] = Counter()
        self.open = 0
        metrics.STREAMS.set_function(lambda: self.open)

    def room(self, conversation: str) -> bool:
        """Return whether one more connection of this conversation is within both limits."""
        return self.open < self._total and self._held[conversation] < self._each

    @contextmanager
    def hold(self, conversation: str) -> Iterator[None]:
        """Count one open connection of this conversation while the context lasts.

        Raises:
            Problem: with Retry-After; 503 when the process is at its limit, 429 when the user is.
        """
        if not self.room(conversation):
            full = self.open >= self._total
            metrics.REFUSED.labels("streams" if full else "user_streams").inc()
            kind = "streams-full" if full else "too-many-streams"
            raise too_soon(kind, STREAM_RETRY_S, "Replies are kept: read them by /v1/replies meanwhile.")
        self._change(conversation, 1)
        try:
            yield
        finally:
            self._change(conversation, -1)

    def _change(self, conversation: str, by: int) -> None:
        self.open += by
        self._held[conversation] += by
        if not self._held[conversation]:
            del self._held[conversation]
