"""NLU beside the turns: waiting texts are parsed in one batch, and a text that breaks NLU fails alone."""

import asyncio
import gc
import threading
import weakref

import pytest

from kefu.worker.engine.understanding import MOST_AT_ONCE, MOST_WAITING, SAME_TIME_S, Understanding
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio


class Processor:
    """NLU that waits until `let` is set and keeps the batches that it got."""

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


async def test_texts_that_arrive_while_nlu_works_form_a_batch(understanding, processor):
    """A batch has at most MOST_AT_ONCE texts."""
    first = understanding.ask(processor, [("first", 1.0)])
    await begun(processor)
    texts = [(f"later {number}", 2.0) for number in range(MOST_AT_ONCE + 5)]
    later = [future for text in texts for future in understanding.ask(processor, [text])]
    processor.let.set()
    results = await asyncio.wait_for(asyncio.gather(*first, *later), 20)
    assert [len(batch) for batch in processor.batches] == [1, MOST_AT_ONCE, 5]
    assert [each["text"] for each in results] == ["first", *(f"later {number}" for number in range(MOST_AT_ONCE + 5))]
    assert results[0]["at"] == 1.0
    assert (await asyncio.wait_for(understanding.ask(processor, [("afterwards", 3.0)])[0], 20))["text"] == "afterwards"


async def test_text_that_breaks_nlu_fails_alone(understanding, processor):
    processor.let.set()
    futures = understanding.ask(processor, [("good", 1.0), ("broken", 1.0), ("good too", 1.0)])
    results = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 20)
    assert [type(each) for each in results] == [dict, ValueError, dict]


async def test_understanding_is_full_while_too_many_texts_wait(understanding, processor):
    """The worker then takes no messages."""
    futures = understanding.ask(processor, [("first", 1.0)])
    await begun(processor)
    futures += understanding.ask(processor, [("waits", 1.0)] * (MOST_WAITING - 1))
    assert not understanding.full
    futures += understanding.ask(processor, [("waits", 1.0)])
    assert understanding.full
    processor.let.set()
    await asyncio.wait_for(asyncio.gather(*futures), 20)
    assert not understanding.full


async def test_text_is_parsed_by_the_model_it_was_taken_for(understanding, processor):
    """The model is swapped while texts wait for NLU."""
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


async def test_repeated_text_is_parsed_once(understanding, processor):
    """A new model parses it again. So does a new period of SAME_TIME_S, because dates may have changed."""
    processor.let.set()
    first = await understood(understanding, processor, ("hello", 10.0))
    assert await understood(understanding, processor, ("hello", 20.0)) == first and len(processor.batches) == 1
    assert (await understood(understanding, processor, ("hello", SAME_TIME_S)))[0]["at"] == SAME_TIME_S
    swapped_in = Processor()
    swapped_in.let.set()
    await understood(understanding, swapped_in, ("hello", 20.0))
    assert swapped_in.batches == [["hello"]]


async def test_number_of_remembered_texts_is_bounded(understanding, processor):
    """Long texts and texts with an exact time are not remembered."""
    processor.let.set()
    for text in ("one", "two", "one", "three", "one", "two"):  # "two" is the least recently used
        await understood(understanding, processor, (text, 1.0))
    assert processor.batches == [["one"], ["two"], ["three"], ["two"]]
    processor.batches.clear()
    processor.entities = [{"entity": "time", "extractor": "DucklingEntityExtractor"}]
    for text in ("in five minutes", "long" * 50):
        await understood(understanding, processor, (text, 1.0))
        await understood(understanding, processor, (text, 1.0))
        processor.entities = []
    assert len(processor.batches) == 4


async def test_nlu_releases_a_model_that_was_swapped_out(understanding):
    swapped_out = Processor()
    swapped_out.let.set()
    await understood(understanding, swapped_out, ("hello", 1.0))
    held = weakref.ref(swapped_out)
    del swapped_out
    understanding.forget()
    # A thread keeps a reference to its last call until the next one.
    await asyncio.get_running_loop().run_in_executor(understanding.thread, int)
    gc.collect()
    assert held() is None
