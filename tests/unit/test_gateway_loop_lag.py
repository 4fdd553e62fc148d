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


class IdleLoop:
    """An event loop that is never late: its time goes from one timer to the next."""

    def __init__(self):
        self._now, self._timers = 1000.0, []

    def time(self):
        return self._now

    def call_at(self, when, callback):
        timer = asyncio.TimerHandle(when, callback, (), self)
        self._timers.append(timer)
        return timer

    def get_debug(self):
        return False

    def _timer_handle_cancelled(self, timer):
        pass

    def run(self, seconds):
        """Call what falls due within this time."""
        end = self._now + seconds
        while due := [timer for timer in self._timers if not timer.cancelled() and timer.when() <= end]:
            self._timers.remove(due[0])
            self._now = due[0].when()
            due[0]._run()
        self._now = end


def test_who_waits_for_others_is_not_late():
    loop, before = IdleLoop(), told()
    LoopWatch(loop).start()
    loop.run(5.5 * EVERY_S)
    looks, late_s = (now - then for now, then in zip(told(), before, strict=True))
    assert (looks, late_s) == (5, pytest.approx(0))


async def test_a_busy_loop_counts_for_all_that_would_have_come_meanwhile():
    watch = LoopWatch(asyncio.get_running_loop())
    watch.start()
    before = told()
    time.sleep(10.5 * EVERY_S)  # noqa: ASYNC251 - the event loop is to wait
    while told() == before:  # noqa: ASYNC110 - the next look of the loop itself is waited for
        await asyncio.sleep(0)
    looks, late_s = (now - then for now, then in zip(told(), before, strict=True))
    assert looks >= 10 and late_s == pytest.approx(sum(0.5 + n for n in range(int(looks))) * EVERY_S, rel=0.2)
    watch.stop()


def test_stopped_it_looks_no_more():
    loop = IdleLoop()
    watch = LoopWatch(loop)
    watch.start()
    loop.run(2.5 * EVERY_S)
    watch.stop()
    before = told()
    loop.run(5 * EVERY_S)
    assert told() == before
