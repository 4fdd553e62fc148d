"""The access log writes lines in batches, keeps a limited number of them, and counts the lines that it drops."""

import asyncio
import logging
from types import SimpleNamespace

import pytest

from kefu.gateway import access_log
from kefu.gateway.access_log import AccessLog
from kefu.metrics import LOG_LINES_DROPPED


@pytest.fixture
def batches(caplog):
    """A function that returns the batches logged so far."""
    caplog.set_level(logging.INFO, logger="kefu.access")
    return lambda: [record.each for record in caplog.records if record.name == "kefu.access"]


def note(log, path="v1/messages", status=202):
    request = SimpleNamespace(method="POST", route=SimpleNamespace(path=path), stream=None)
    log.note(request, SimpleNamespace(status=status))


async def test_access_log_writes_its_lines_in_batches(batches, monkeypatch):
    """A batch is logged after FLUSH_S; `flush` logs the rest at the end, once."""
    monkeypatch.setattr(access_log, "FLUSH_S", 0.05)
    log = AccessLog(True)
    for status in (202, 429):
        note(log, status=status)
    assert not batches()
    while not batches():  # noqa: ASYNC110 - the test has its time limit
        await asyncio.sleep(0.01)
    assert [(line["route"], line["status"]) for line in batches()[0]] == [("/v1/messages", 202), ("/v1/messages", 429)]
    note(log)
    log.flush()
    log.flush()
    assert [len(batch) for batch in batches()] == [2, 1]


async def test_access_log_drops_and_counts_lines_beyond_its_limit(batches, monkeypatch):
    monkeypatch.setattr(access_log, "MAX_LINES", 2)
    log, before = AccessLog(True), LOG_LINES_DROPPED._value.get()
    for _ in range(5):
        note(log)
    log.flush()
    assert len(batches()[0]) == 2 and LOG_LINES_DROPPED._value.get() - before == 3


async def test_access_log_writes_no_line_for_probes_or_when_disabled(batches):
    log = AccessLog(True)
    note(log, "readyz", 200)
    note(AccessLog(False))
    log.flush()
    assert not batches()
