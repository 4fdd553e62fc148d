"""How late the event loop is: told when this process is busy, and not when others are slow."""

import asyncio
import time

import pytest

from kefu.gateway.loop_lag import EVERY_S, LoopWatch
from kefu.metrics import LOOP_LATE_SECONDS


def told():
    """Return how often the loop was looked at, and how late it was in all."""
    values = {sample.name: sample.value for sample in LOOP_LATE_SECONDS.collect()[0].samples if not sample.labels}
    return values["kefu_loop_late_seconds_count"], values["kefu_loop_late_seconds_sum"]


@pytest.fixture
async def watch():
    watch = LoopWatch()
    watch.start()
    yield watch
    watch.stop()


async def test_who_waits_for_others_is_not_late(watch):
    late = []
    for _ in range(5):  # a machine that stalls makes it late at times, but not each time
        before = told()
        await asyncio.sleep(5.5 * EVERY_S)
        looks, late_s = (now - then for now, then in zip(told(), before, strict=True))
        assert looks >= 4
        late.append(late_s / looks)
        if late[-1] < EVERY_S / 2:
            return
    pytest.fail(f"late by {late} s")


async def test_a_busy_loop_counts_for_all_that_would_have_come_meanwhile(watch):
    before = told()
    time.sleep(10.5 * EVERY_S)  # noqa: ASYNC251 - the event loop is to wait
    while told() == before:  # noqa: ASYNC110 - the next look of the loop itself is waited for
        await asyncio.sleep(0)
    looks, late_s = (now - then for now, then in zip(told(), before, strict=True))
    assert looks >= 10 and late_s == pytest.approx(sum(0.5 + n for n in range(int(looks))) * EVERY_S, rel=0.2)


async def test_stopped_it_looks_no_more(watch):
    watch.stop()
    before = told()
    await asyncio.sleep(2 * EVERY_S)
    assert told() == before
