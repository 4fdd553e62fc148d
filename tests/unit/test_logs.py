"""A log line names the error's class and place, and holds no customer's text."""

import json
import logging
import queue
import sys

from kefu import logs
from kefu.logs import JsonFormatter
from kefu.metrics import LOG_LINES_DROPPED


def line_of(error_text):
    try:
        try:
            raise KeyError(error_text)
        except KeyError as cause:
            raise ValueError(f"bad {error_text}") from cause
    except ValueError:
        record = logging.LogRecord("kefu.x", logging.ERROR, __file__, 1, "turn failed", None, sys.exc_info())
    record.fields = {"attempt": 2}
    return JsonFormatter("worker").format(record)


def test_an_error_is_logged_by_class_place_and_cause():
    line = json.loads(line_of("secret words"))
    assert (line["message"], line["attempt"], line["process"]) == ("turn failed", 2, "worker")
    assert "ValueError" in line["error"] and "KeyError" in line["error"]
    assert any("test_logs.py" in place and "line_of" in place for place in line["error"])


def test_an_errors_text_is_not_logged():
    assert "secret" not in line_of("secret words")


def record_of(each):
    record = logging.LogRecord("kefu.access", logging.INFO, __file__, 1, "request", None, None)
    record.each = each
    return record


def test_batch_of_log_lines_has_a_time_for_each_line():
    each = [{"ts": 0.25, "route": "/a"}, {"ts": 61.5, "route": "/b"}]
    first, second = map(json.loads, JsonFormatter("gateway").format(record_of(each)).split("\n"))
    assert first.items() >= {"ts": "1970-01-01T00:00:00.250Z", "route": "/a", "message": "request"}.items()
    assert second.items() >= {"ts": "1970-01-01T00:01:01.500Z", "route": "/b", "process": "gateway"}.items()


def test_log_batches_beyond_the_limit_are_dropped_and_counted():
    waiting = queue.Queue(logs.MAX_WAITING_LINES)
    aside, before = logs._Aside(waiting), dropped()
    for _ in range(logs.MAX_WAITING_BATCHES + 3):
        aside.enqueue(record_of([{"ts": 0.0}] * 10))
    assert waiting.qsize() == logs.MAX_WAITING_BATCHES and dropped() - before == 30
    aside.enqueue(logging.LogRecord("kefu.x", logging.ERROR, __file__, 1, "an error still finds room", None, None))
    assert waiting.qsize() == logs.MAX_WAITING_BATCHES + 1


def dropped():
    return LOG_LINES_DROPPED._value.get()
