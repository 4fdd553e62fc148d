"""The measured lag grows when this process blocks its event loop, and not while tasks wait for other processes."""

import asyncio
import time

import pytest

from kefu.gateway.loop_lag import EVERY_S, LoopWatch
from kefu.metrics import LOOP_LATE_SECONDS


def measured():
    """Return how many calls were measured, and the sum of their lateness in s."""
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


def test_idle_event_loop_is_measured_as_punctual():
    loop, before = IdleLoop(), measured()
    LoopWatch(loop).start()
    loop.run(5.5 * EVERY_S)
    looks, late_s = (now - then for now, then in zip(measured(), before, strict=True))
    assert (looks, late_s) == (5, pytest.approx(0))


async def test_blocked_event_loop_counts_every_missed_call():
    watch = LoopWatch(asyncio.get_running_loop())
    watch.start()
    before = measured()
    time.sleep(10.5 * EVERY_S)  # noqa: ASYNC251 - the event loop is to wait
    while measured() == before:  # noqa: ASYNC110 - waits for the next call of LoopWatch
        await asyncio.sleep(0)
    looks, late_s = (now - then for now, then in zip(measured(), before, strict=True))
    assert looks >= 10 and late_s == pytest.approx(sum(0.5 + n for n in range(int(looks))) * EVERY_S, rel=0.2)
    watch.stop()


def test_stopped_loop_watch_measures_nothing():
    loop = IdleLoop()
    watch = LoopWatch(loop)
    watch.start()
    loop.run(2.5 * EVERY_S)
    watch.stop()
    before = measured()
    loop.run(5 * EVERY_S)
    assert measured() == before
