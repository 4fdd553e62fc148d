"""Logs of every process: one JSON object a line on stderr, no customer's text in it.

Ids, counts, classes and milliseconds go into `extra={"fields": {...}}`; the message itself is a
constant sentence. What slips in all the same is masked on its way out.
"""

import atexit
import json
import logging
import logging.handlers
import queue
import sys
import time

from kefu.metrics import LOG_LINES_DROPPED
from kefu.privacy import mask

MAX_WAITING_LINES = 10_000


class JsonFormatter(logging.Formatter):
    """Render a record as one line of JSON: time (UTC), level, process, logger, message, fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; text from elsewhere (exceptions included) is masked."""
        line = {
            "ts": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": mask(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = mask(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


class _Aside(logging.handlers.QueueHandler):
    """Hands records to the thread that writes them: a full pipe must not stop the event loop."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # formatted by the listener, exception and all

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            LOG_LINES_DROPPED.inc()


def configure(process: str, level: int = logging.INFO) -> None:
    """Send every logger of this process through one JSON handler. Replaces what is there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process))
    lines: queue.Queue[logging.LogRecord] = queue.Queue(MAX_WAITING_LINES)
    listener = logging.handlers.QueueListener(lines, handler)
    listener.start()
    atexit.register(listener.stop)
    logging.root.handlers[:] = [_Aside(lines)]
    logging.root.setLevel(level)
    for name in ("httpx", "httpcore", "hpack", "asyncio", "aiosqlite", "rasa.shared.utils.io"):
        logging.getLogger(name).setLevel(logging.WARNING)
