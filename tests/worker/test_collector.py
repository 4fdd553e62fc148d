"""The garbage collector pauses while a worker starts; afterwards it collects when the worker is idle."""

import asyncio
import gc
import weakref

import pytest

from kefu.worker.agent import load_beside
from kefu.worker.start import collector
from tests.worker.conftest import MODEL


@pytest.fixture
def as_before():
    """Restore this process's collector settings after the test."""
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
    """An object in a reference cycle: only the collector can free it."""

    def __init__(self):
        self.itself = self


def test_start_runs_without_collection_and_freezes_objects(as_before):
    collector.hold()
    assert not gc.isenabled()
    collector.settle()
    assert gc.isenabled()
    assert gc.get_threshold() == collector.THRESHOLDS
    assert gc.get_freeze_count() > len(gc.get_objects())


def test_tidying_frees_frozen_objects_without_references(as_before):
    knot = Knot()
    collector.settle()
    gone = weakref.ref(knot)
    del knot
    gc.collect()
    assert gone() is not None  # a frozen object is not collected
    collector.tidy()
    assert gone() is None


def test_tidying_waits_for_an_idle_worker_up_to_a_limit():
    clock = Clock()
    housekeeping = collector.Housekeeping(clock)
    assert not housekeeping.due(busy=False)
    clock.now = collector.WHEN_IDLE_S
    assert not housekeeping.due(busy=True)
    assert housekeeping.due(busy=False)
    assert not housekeeping.due(busy=False)
    clock.now += collector.ANYWAY_S
    assert housekeeping.due(busy=True)


def test_swap_brings_tidying_forward():
    """Tidying waits for the swap's answer and an idle worker, at most SOON_S."""
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
async def test_five_model_swaps_leave_one_model_in_memory(agent, actions, as_before):
    loaded, current = [], agent
    for _ in range(5):
        current = await load_beside(str(MODEL), current, actions, 0.5)
        loaded += [weakref.ref(current), weakref.ref(current.processor), weakref.ref(current.domain)]
    await asyncio.sleep(0)  # lets the last task drop its reference
    collector.tidy()
    assert [ref() is not None for ref in loaded] == [False] * 12 + [True] * 3
