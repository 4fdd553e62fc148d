"""What NLU costs a message, in this process: `python -m ops.bench.nlu stock|kefu MODEL`, under Rasa's Python.

Prints JSON: size of a poll to CPU ms a message, all threads counted. Every text is a new one.
"""

import asyncio
import gc
import json
import logging
import sys
import time
from typing import Any, Callable, Dict, Iterator, List

from rasa.core.agent import Agent
from rasa.core.channels.channel import UserMessage
from rasa.core.lock_store import InMemoryLockStore
from rasa.core.nlg import TemplatedNaturalLanguageGenerator
from rasa.core.tracker_store import InMemoryTrackerStore

from ops.bench.scripts import TALK, text

POLLS = (64, 8, 1)
MEASURED = 256  # messages of each size
WARMING = 64
FIRST = 1_000_000
Parse = Callable[[List[str]], Any]


def main() -> None:
    """Load the model, measure, print."""
    logging.disable(logging.WARNING)
    kind, path = sys.argv[1:]
    parse = _kefu(path) if kind == "kefu" else _stock(path)
    gc.collect()
    gc.freeze()  # as the worker does: else a pass over all of Rasa falls into one poll or another
    texts = _texts()
    found: Dict[int, float] = {}
    for size in POLLS:
        _cpu_s(parse, texts, size, WARMING)
        found[size] = _cpu_s(parse, texts, size, MEASURED) * 1000 / MEASURED
    print(json.dumps(found))


def _cpu_s(parse: Parse, texts: Iterator[str], size: int, count: int) -> float:
    polls = [[next(texts) for _ in range(size)] for _ in range(count // size)]
    began = time.process_time()
    for poll in polls:
        parse(poll)
    return time.process_time() - began


def _texts() -> Iterator[str]:
    customer = FIRST
    while True:
        for turn in range(5):
            yield text(TALK, customer, turn)
        customer += 1


def _kefu(path: str) -> Parse:
    """Return what the worker calls for a poll."""
    from kefu.worker.engine.model import LoadedModel
    from kefu.worker.engine.processor import TurnProcessor

    model = LoadedModel.from_path(path)
    domain = model.metadata.domain
    processor = TurnProcessor(
        model,
        tracker_store=InMemoryTrackerStore(domain),
        lock_store=InMemoryLockStore(),
        generator=TemplatedNaturalLanguageGenerator(domain.responses),
    )
    return lambda texts: processor.parse_batch("bench", texts)


def _stock(path: str) -> Parse:
    """Return what stock Rasa calls for a message; it knows no polls."""
    processor = Agent.load(path).processor
    loop = asyncio.new_event_loop()

    def parse(texts: List[str]) -> None:
        for each in texts:
            loop.run_until_complete(processor.parse_message(UserMessage(each)))

    return parse


if __name__ == "__main__":
    main()
