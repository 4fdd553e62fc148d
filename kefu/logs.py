"""Logs of every process: one JSON object a line on stderr, without any customer's text.

Ids, counts, classes and milliseconds go into `extra={"fields": {...}}`; the message itself is a constant sentence.
Personal data that gets into a line by mistake is masked when it is written. Many lines of one kind can be logged as
one record with `extra={"each": [{"ts": seconds, ...}, ...]}`, which costs a tenth.
"""

import atexit
import json
import logging
import logging.handlers
import queue
import sys
import time
import traceback
from functools import lru_cache
from typing import Any, Dict, List, Optional

import orjson

from kefu.metrics import LOG_LINES_DROPPED
from kefu.privacy import mask

MAX_WAITING_LINES = 10_000  # limits the records that wait for the log's thread; beyond it they are dropped and counted
MAX_WAITING_BATCHES = 20  # the same for a record of many lines: it is dropped when this many records wait
MAX_FRAMES = 8  # limits the stack frames logged of one error: the innermost are kept
MAX_TRACE_LINES = 40  # after this many lines no further cause of an error is logged


class JsonFormatter(logging.Formatter):
    """Formats a log record as one line of JSON: time (UTC), level, process, logger, message, fields."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or the lines of `each`. The message is masked; an exception's text is left out."""
        line = {
            "ts": _utc(record.created),
            "level": record.levelname.lower(),
            "process": self._process,
            "logger": record.name,
            "message": mask(record.getMessage()),
            **getattr(record, "fields", {}),
        }
        if hasattr(record, "each"):
            return _lines(line, record.each)
        if record.exc_info:
            line["error"] = _trace(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def _lines(head: Dict[str, Any], each: List[Dict[str, Any]]) -> str:
    return b"\n".join(orjson.dumps({**head, **fields, "ts": _utc(fields["ts"])}) for fields in each).decode()


def _utc(seconds: float) -> str:
    return f"{_second(int(seconds))}.{int(seconds % 1 * 1000):03d}Z"


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _trace(error: Optional[BaseException]) -> List[str]:
    """Return the classes and stack frames of an error and its causes, the error itself first.

    The errors' texts are left out, because a component may have put the customer's words there.
    """
    lines: List[str] = []
    while error is not None and len(lines) < MAX_TRACE_LINES:
        lines.append(error.__class__.__name__)
        frames = traceback.extract_tb(error.__traceback__)[-MAX_FRAMES:]
        lines += [f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames)]
        error = error.__cause__ or error.__context__
    return lines


class _Aside(logging.handlers.QueueHandler):
    """Hands records to the thread that writes them, so that a full pipe can't block the event loop."""

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # unchanged: the listener's thread formats it, exception included

    def enqueue(self, record: logging.LogRecord) -> None:
        each = getattr(record, "each", None)
        try:
            if each is not None and self.queue.qsize() >= MAX_WAITING_BATCHES:  # type: ignore[attr-defined] # a queue.Queue
                raise queue.Full
            self.queue.put_nowait(record)
        except queue.Full:
            LOG_LINES_DROPPED.inc(1 if each is None else len(each))


def configure(process: str, level: int = logging.INFO) -> None:
    """Send every logger of this process through one JSON handler, which replaces the root logger's handlers."""
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
