"""A log line tells what broke and where, and nothing that a customer said."""

import json
import logging
import sys

from kefu.logs import JsonFormatter


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


def test_an_error_is_told_by_class_and_place_with_its_cause():
    line = json.loads(line_of("secret words"))
    assert (line["message"], line["attempt"], line["process"]) == ("turn failed", 2, "worker")
    assert "ValueError" in line["error"] and "KeyError" in line["error"]
    assert any("test_logs.py" in place and "line_of" in place for place in line["error"])


def test_what_an_error_says_is_not_logged():
    assert "secret" not in line_of("secret words")
