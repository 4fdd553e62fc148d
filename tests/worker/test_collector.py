"""The garbage collector holds still while a worker starts, and tidies up when there is time."""

import asyncio
import gc
import weakref

import pytest

from kefu.worker.agent import load_beside
from kefu.worker.start import collector
from tests.worker.conftest import MODEL


@pytest.fixture
def as_before():
    """Leave the collector of this process as it was."""
    enabled, thresholds = gc.isenabled(), gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    (gc.enable if enabled else gc.disable)()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Knot:
    """Something that only the collector can free."""

    def __init__(self):
        self.itself = self


def test_a_start_is_not_collected_and_what_it_made_is_set_aside(as_before):
    collector.hold()
    assert not gc.isenabled()
    collector.settle()
    assert gc.isenabled()
    assert gc.get_threshold() == collector.THRESHOLDS
    assert gc.get_freeze_count() > len(gc.get_objects())


def test_what_was_set_aside_is_given_back_once_nobody_needs_it(as_before):
    knot = Knot()
    collector.settle()
    gone = weakref.ref(knot)
    del knot
    gc.collect()
    assert gone() is not None  # set aside, nobody looks at it
    collector.tidy()
    assert gone() is None


def test_tidying_waits_for_a_quiet_moment_and_not_for_ever():
    clock = Clock()
    housekeeping = collector.Housekeeping(clock)
    assert not housekeeping.due(busy=False)
    clock.now = collector.WHEN_IDLE_S
    assert not housekeeping.due(busy=True)
    assert housekeeping.due(busy=False)
    assert not housekeeping.due(busy=False)
    clock.now += collector.ANYWAY_S
    assert housekeeping.due(busy=True)


def test_after_a_swap_it_is_done_as_soon_as_it_is_quiet():
    clock = Clock()
    housekeeping = collector.Housekeeping(clock)
    housekeeping.soon()
    assert not housekeeping.due(busy=False), "whoever asked for the swap is being answered"
    clock.now = collector.A_MOMENT_S
    assert not housekeeping.due(busy=True)
    assert housekeeping.due(busy=False)
    housekeeping.soon()
    clock.now += collector.SOON_S
    assert housekeeping.due(busy=True)


@pytest.mark.asyncio
async def test_of_five_models_loaded_one_after_the_other_the_last_alone_stays(agent, actions, as_before):
    loaded, current = [], agent
    for _ in range(5):
        current = await load_beside(str(MODEL), current, actions, 0.5)
        loaded += [weakref.ref(current), weakref.ref(current.processor), weakref.ref(current.domain)]
    await asyncio.sleep(0)  # the last task's own reference
    collector.tidy()
    assert [ref() is not None for ref in loaded] == [False] * 12 + [True] * 3
