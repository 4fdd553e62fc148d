"""Logs of every process: one JSON object a line on stderr, no customer's text in it.

Ids, counts, classes and milliseconds go into `extra={"fields": {...}}`; the message itself is a
constant sentence. What slips in all the same is masked on its way out.
"""

import json
import logging
import sys
import time

from kefu.privacy import mask


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


def configure(process: str, level: int = logging.INFO) -> None:
    """Send every logger of this process through one JSON handler. Replaces what is there."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(process))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(level)
    for name in ("httpx", "httpcore", "hpack", "asyncio", "aiosqlite", "rasa.shared.utils.io"):
        logging.getLogger(name).setLevel(logging.WARNING)
