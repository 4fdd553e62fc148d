"""`python -m ops.bench.nlu stock|kefu MODEL`: measures NLU's CPU time a message. Runs under Rasa's Python.

Prints JSON: the size of a poll to CPU ms a message, of all threads. No text comes twice.
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

POLLS = (64, 8, 1)  # the measured sizes of a poll
MEASURED = 256  # messages that are measured for each size of a poll
WARMING = 64  # messages that are parsed before each measurement
FIRST = 1_000_000  # number of the first simulated customer, whose texts no other part of the bench uses
Parse = Callable[[List[str]], Any]


def main() -> None:
    """Load the model, measure NLU, print the CPU times."""
    logging.disable(logging.WARNING)
    kind, path = sys.argv[1:]
    parse = _kefu(path) if kind == "kefu" else _stock(path)
    gc.collect()
    gc.freeze()  # as the worker does: otherwise a garbage collection of all of Rasa's objects falls into some poll
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
    """Return the function that Kefu's worker calls for the texts of a poll."""
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
    """Return a function that parses texts as stock Rasa does: one by one."""
    processor = Agent.load(path).processor
    loop = asyncio.new_event_loop()

    def parse(texts: List[str]) -> None:
        for each in texts:
            loop.run_until_complete(processor.parse_message(UserMessage(each)))

    return parse


if __name__ == "__main__":
    main()
