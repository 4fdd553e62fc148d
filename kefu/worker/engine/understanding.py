"""Runs NLU in a thread beside the turns, over all waiting texts at once.

In: the texts of a poll. Out: a future for each text. Texts that arrive while NLU works form the next batch. A text in a
batch of 64 costs half as much as alone, so texts get cheaper the busier a worker is. The results of frequent short
texts ("你好", a button's payload) are remembered.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Any, Dict, List, Optional, Tuple

from kefu import metrics
from kefu.worker.engine.processor import TurnProcessor

BATCH_NAME = "kefu-poll"  # the sender id of a batch, because Rasa requires one
# Limits the texts in a batch. A larger batch is hardly cheaper per text, and its first text would wait for its last.
MOST_AT_ONCE = 64
# From this many waiting texts on, the worker takes no more messages from Kafka. With a slow model the deadlines of
# further messages would pass before NLU came to them.
MOST_WAITING = 256
STUCK_S = 60.0  # if NLU works on a batch for longer than this, the worker ends and is restarted
LONGEST_REMEMBERED = 60  # characters; the result of a longer text is not remembered, because it is hardly ever repeated
# A result is reused for texts of the same quarter hour. "tomorrow" changes its meaning at midnight, and midnight is on
# a quarter hour in every time zone.
SAME_TIME_S = 900.0
BY_THE_MINUTE = "DucklingEntityExtractor"  # its values depend on the exact time, so its results are not remembered

Said = Tuple[str, float]  # a text, and the time when it was sent, in s since the epoch
Understood = asyncio.Future[Dict[str, Any]]


class SaidBefore:
    """The NLU results of one model for the texts used last."""

    def __init__(self, most: int) -> None:
        """Create an empty memory for the results of up to `most` texts, 0 for none."""
        self._most = most
        self._model: Optional[TurnProcessor] = None
        self._results: Dict[Tuple[str, int], Dict[str, Any]] = {}  # the least recently used first

    def get(self, model: TurnProcessor, said: Said) -> Optional[Dict[str, Any]]:
        """Return this model's result for a text, None if it isn't remembered."""
        result = self._results.pop(_key(said), None) if model is self._model else None
        if result is not None:
            self._results[_key(said)] = result
        return result

    def clear(self) -> None:
        """Drop all remembered results, and the reference to their model."""
        self._model, self._results = None, {}

    def put(self, model: TurnProcessor, said: Said, result: Dict[str, Any]) -> None:
        """Remember a result, if the text is short and the result doesn't depend on the exact time."""
        if model is not self._model:
            self._model, self._results = model, {}
        exact = any(entity.get("extractor") == BY_THE_MINUTE for entity in result.get("entities", ()))
        if self._most and len(said[0]) <= LONGEST_REMEMBERED and not exact:
            self._results[_key(said)] = result
            if len(self._results) > self._most:
                del self._results[next(iter(self._results))]


def _key(said: Said) -> Tuple[str, int]:
    text, ts = said
    return text, int(ts // SAME_TIME_S)


class Understanding:
    """The queue of texts for NLU. All methods belong to the event loop's thread."""

    def __init__(self, remembered: int) -> None:
        """Create an empty queue.

        Args:
            remembered: how many texts' results to remember.
        """
        self._before = SaidBefore(remembered)
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="nlu")
        self._waiting: List[Tuple[TurnProcessor, Said, Understood]] = []
        self._work: Optional[asyncio.Task[None]] = None
        self._began: Optional[float] = None

    @property
    def full(self) -> bool:
        """Whether MOST_WAITING texts wait, so that the worker should take no more messages."""
        return len(self._waiting) >= MOST_WAITING

    @property
    def stuck(self) -> bool:
        """Whether NLU has worked on the current batch for more than STUCK_S, so that only a restart can help."""
        return self._began is not None and time.monotonic() - self._began > STUCK_S

    def ask(self, processor: TurnProcessor, said: List[Said]) -> List[Understood]:
        """Queue texts for NLU; return a future for each: the NLU result of this model, or NLU's exception."""
        loop = asyncio.get_running_loop()
        futures: List[Understood] = [loop.create_future() for _ in said]
        for each, future in zip(said, futures, strict=True):
            known = self._before.get(processor, each)
            if known is not None:
                future.set_result(known)
                metrics.NLU_REMEMBERED.inc()
            else:
                self._waiting.append((processor, each, future))
        if self._waiting and self._work is None:
            self._work = asyncio.ensure_future(self._work_off())
        return futures

    def forget(self) -> None:
        """Drop the results of a model that is no longer used, so that its memory can be freed."""
        self._before.clear()

    def stop(self) -> None:
        """Let the thread end after its current batch. `ask` must not be called any more."""
        self.thread.shutdown(wait=False)

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                processor = self._waiting[0][0]
                batch = list(takewhile(lambda waits: waits[0] is processor, self._waiting[:MOST_AT_ONCE]))  # noqa: B023
                del self._waiting[: len(batch)]
                self._began = time.monotonic()
                results = await self._parse(processor, [said for _, said, _ in batch])
                for data, (_, each, future) in zip(results, batch, strict=True):
                    if not isinstance(data, Exception):
                        self._before.put(processor, each, data)
                    _settle(future, data)
        finally:
            self._work = self._began = None

    async def _parse(self, processor: TurnProcessor, said: List[Said]) -> List[Any]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.thread, _understood, processor, said)
        except Exception:  # noqa: BLE001 - the texts are parsed one by one below, to find the bad one
            metrics.RETRIES.labels("nlu").inc()
        results: List[Any] = []
        for each in said:
            try:
                results += await loop.run_in_executor(self.thread, _understood, processor, [each])
            except Exception as error:  # noqa: BLE001 - the text's turn handles it
                results.append(error)
        return results


def _understood(processor: TurnProcessor, said: List[Said]) -> List[Dict[str, Any]]:
    """Run NLU and count its CPU time. Runs in NLU's thread."""
    began = time.thread_time()
    try:
        return processor.parse_batch(BATCH_NAME, [text for text, _ in said], [ts for _, ts in said])
    finally:
        metrics.NLU_CPU_SECONDS.inc(time.thread_time() - began)
        metrics.NLU_TEXTS.inc(len(said))


def _settle(future: Understood, data: Any) -> None:
    if isinstance(data, Exception):
        future.set_exception(data)
        future.exception()  # marks it as retrieved: if no turn reads it, asyncio would log it with the customer's text
    else:
        future.set_result(data)
