"""The access log and the metrics of requests: each response is counted, timed and logged.

A line holds no query, token or text. Lines go to the log's thread in batches: a log record and a wake-up for each line
cost 40 us a request.
"""

import asyncio
import logging
import time
from typing import Any, Dict, List, Optional, Tuple

from prometheus_client import Counter, Histogram
from sanic import HTTPResponse, Request

from kefu import metrics

logger = logging.getLogger("kefu.access")

FLUSH_S = 0.25  # lines are collected for this long, then handed to the log together
MAX_LINES = 5_000  # limits the lines collected within FLUSH_S; lines beyond it are dropped and counted
_QUIET = ("/livez", "/readyz", "/metrics")  # counted, but not logged: probes call them all the time


class AccessLog:
    """Counts, times and logs responses; without `lines` it logs none. Must be called in the event loop's thread."""

    def __init__(self, lines: bool) -> None:
        self._wanted = lines
        self._lines: List[Dict[str, Any]] = []
        self._timer: Optional[asyncio.TimerHandle] = None
        # By route and status. Cached because `labels()` costs more than the count itself; the pairs are few.
        self._metrics: Dict[Tuple[str, int], Tuple[Counter, Histogram]] = {}

    def note(self, request: Request, response: HTTPResponse) -> None:
        """Count, time and log the response to `request`. For a stream, the time is that until its start."""
        route = f"/{request.route.path}" if request.route else "none"
        began = getattr(request.stream, "perft0", None)
        seconds = time.perf_counter() - began if began else 0.0
        counter, histogram = self._metrics.get((route, response.status)) or self._labelled(route, response.status)
        counter.inc()
        histogram.observe(seconds)
        if self._wanted and route not in _QUIET:
            self._line(request.method, route, response.status, seconds)

    def flush(self) -> None:
        """Hand the collected lines to the log's thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            logger.info("request", extra={"each": lines})

    def _line(self, method: str, route: str, status: int, seconds: float) -> None:
        if len(self._lines) >= MAX_LINES:
            metrics.LOG_LINES_DROPPED.inc()
            return
        ms = round(seconds * 1e3, 1)
        self._lines.append({"ts": time.time(), "method": method, "route": route, "status": status, "ms": ms})
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def _labelled(self, route: str, status: int) -> Tuple[Counter, Histogram]:
        pair = metrics.HTTP_REQUESTS.labels(route, status), metrics.HTTP_SECONDS.labels(route)
        self._metrics[route, status] = pair
        return pair
