"""NLU beside the turns: texts that wait are understood together, and one that breaks it breaks no other."""

import asyncio
import gc
import threading
import weakref

import pytest

from kefu.worker.engine.understanding import MOST_AT_ONCE, MOST_WAITING, SAME_TIME_S, Understanding
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio


class Processor:
    """NLU that works when it is let, and notes what it got at once."""

    def __init__(self):
        self.let, self.batches, self.entities = threading.Event(), [], []

    def parse_batch(self, _, texts, times):
        self.batches.append(list(texts))
        assert self.let.wait(20)
        if "broken" in texts:
            raise ValueError("a bug")
        return [{"text": text, "at": time, "entities": self.entities} for text, time in zip(texts, times, strict=True)]


@pytest.fixture
def processor():
    return Processor()


@pytest.fixture
def understanding(processor):
    made = Understanding(remembered=2)
    yield made
    made.stop()


async def begun(processor):
    await eventually(lambda: processor.batches)


async def test_texts_that_come_while_nlu_works_are_understood_together(understanding, processor):
    first = understanding.ask(processor, [("first", 1.0)])
    await begun(processor)
    texts = [(f"later {number}", 2.0) for number in range(MOST_AT_ONCE + 5)]
    later = [future for text in texts for future in understanding.ask(processor, [text])]
    processor.let.set()
    found = await asyncio.wait_for(asyncio.gather(*first, *later), 20)
    assert [len(batch) for batch in processor.batches] == [1, MOST_AT_ONCE, 5]
    assert [each["text"] for each in found] == ["first", *(f"later {number}" for number in range(MOST_AT_ONCE + 5))]
    assert found[0]["at"] == 1.0
    assert (await asyncio.wait_for(understanding.ask(processor, [("afterwards", 3.0)])[0], 20))["text"] == "afterwards"


async def test_a_text_that_breaks_nlu_breaks_no_other(understanding, processor):
    processor.let.set()
    futures = understanding.ask(processor, [("good", 1.0), ("broken", 1.0), ("good too", 1.0)])
    found = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 20)
    assert [type(each) for each in found] == [dict, ValueError, dict]


async def test_more_is_not_taken_while_very_many_wait(understanding, processor):
    futures = understanding.ask(processor, [("first", 1.0)])
    await begun(processor)
    futures += understanding.ask(processor, [("waits", 1.0)] * (MOST_WAITING - 1))
    assert not understanding.full
    futures += understanding.ask(processor, [("waits", 1.0)])
    assert understanding.full
    processor.let.set()
    await asyncio.wait_for(asyncio.gather(*futures), 20)
    assert not understanding.full


async def test_each_text_is_understood_by_the_model_that_it_was_taken_for(understanding, processor):
    swapped_in = Processor()
    first = understanding.ask(processor, [("first", 1.0)])
    await begun(processor)
    asked = [understanding.ask(model, [(text, 1.0)]) for model, text in ((processor, "old"), (swapped_in, "new"))]
    processor.let.set()
    swapped_in.let.set()
    await asyncio.wait_for(asyncio.gather(*first, *(each[0] for each in asked)), 20)
    assert (processor.batches, swapped_in.batches) == ([["first"], ["old"]], [["new"]])


async def understood(understanding, processor, *said):
    return await asyncio.wait_for(asyncio.gather(*understanding.ask(processor, list(said))), 20)


async def test_what_was_said_before_is_not_asked_for_again_until_the_model_or_the_day_may_be_another(
    understanding, processor
):
    processor.let.set()
    first = await understood(understanding, processor, ("hello", 10.0))
    assert await understood(understanding, processor, ("hello", 20.0)) == first and len(processor.batches) == 1
    assert (await understood(understanding, processor, ("hello", SAME_TIME_S)))[0]["at"] == SAME_TIME_S
    swapped_in = Processor()
    swapped_in.let.set()
    await understood(understanding, swapped_in, ("hello", 20.0))
    assert swapped_in.batches == [["hello"]]


async def test_only_so_much_is_remembered_and_nothing_that_is_long_or_exact(understanding, processor):
    processor.let.set()
    for text in ("one", "two", "one", "three", "one", "two"):  # "two" was unused for longest
        await understood(understanding, processor, (text, 1.0))
    assert processor.batches == [["one"], ["two"], ["three"], ["two"]]
    processor.batches.clear()
    processor.entities = [{"entity": "time", "extractor": "DucklingEntityExtractor"}]
    for text in ("in five minutes", "long" * 50):
        await understood(understanding, processor, (text, 1.0))
        await understood(understanding, processor, (text, 1.0))
        processor.entities = []
    assert len(processor.batches) == 4


async def test_a_model_that_is_in_use_no_more_is_not_held(understanding):
    swapped_out = Processor()
    swapped_out.let.set()
    await understood(understanding, swapped_out, ("hello", 1.0))
    held = weakref.ref(swapped_out)
    del swapped_out
    understanding.forget()
    # A thread holds what it was last given until it is given more.
    await asyncio.get_running_loop().run_in_executor(understanding.thread, int)
    gc.collect()
    assert held() is None
