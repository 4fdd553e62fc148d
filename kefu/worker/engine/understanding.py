"""NLU beside the turns: in a thread, over all texts that wait at once.

In: the texts of a poll. Out: a future each. What comes while NLU works is understood together after
it, for a text costs half as much among 64 as alone; so the busier a worker is, the cheaper they get.
What many say ("你好", a button's payload) is understood once.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import Any, Dict, List, Optional, Tuple

from kefu import metrics
from kefu.worker.engine.processor import TurnProcessor

BATCH_NAME = "kefu-poll"
MOST_AT_ONCE = 64  # more are hardly cheaper, and the first of them would wait for the last
MOST_WAITING = 256  # with a slow model, more would be understood after their turns have ended
STUCK_S = 60.0
LONGEST_REMEMBERED = 60  # characters: nobody says the same long sentence again
SAME_TIME_S = 900.0  # "tomorrow" means another day after midnight, which comes on a quarter hour in every time zone
BY_THE_MINUTE = "DucklingEntityExtractor"  # its values depend on when exactly something was said

Said = Tuple[str, float]  # a text, and when it was said in s since 1970
Understood = asyncio.Future[Dict[str, Any]]


class SaidBefore:
    """What one model's NLU made of texts, the last that were asked for."""

    def __init__(self, most: int) -> None:
        """Remember `most` texts, 0 for none."""
        self._most = most
        self._model: Optional[TurnProcessor] = None
        self._found: Dict[Tuple[str, int], Dict[str, Any]] = {}  # the longest unused first

    def get(self, model: TurnProcessor, said: Said) -> Optional[Dict[str, Any]]:
        """Return what this model made of it, None if that isn't known."""
        found = self._found.pop(_key(said), None) if model is self._model else None
        if found is not None:
            self._found[_key(said)] = found
        return found

    def clear(self) -> None:
        """Forget everything, and the model."""
        self._model, self._found = None, {}

    def put(self, model: TurnProcessor, said: Said, found: Dict[str, Any]) -> None:
        """Remember it, if it is short and means the same a moment later."""
        if model is not self._model:
            self._model, self._found = model, {}
        exact = any(entity.get("extractor") == BY_THE_MINUTE for entity in found.get("entities", ()))
        if self._most and len(said[0]) <= LONGEST_REMEMBERED and not exact:
            self._found[_key(said)] = found
            if len(self._found) > self._most:
                del self._found[next(iter(self._found))]


def _key(said: Said) -> Tuple[str, int]:
    text, ts = said
    return text, int(ts // SAME_TIME_S)


class Understanding:
    """Texts wait here for NLU. All methods belong to the event loop's thread."""

    def __init__(self, remembered: int) -> None:
        """Prepare; nothing runs yet.

        Args:
            remembered: of how many texts to remember what they mean.
        """
        self._before = SaidBefore(remembered)
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="nlu")
        self._waiting: List[Tuple[TurnProcessor, Said, Understood]] = []
        self._work: Optional[asyncio.Task[None]] = None
        self._began: Optional[float] = None

    @property
    def full(self) -> bool:
        """Whether no more should be asked for now."""
        return len(self._waiting) >= MOST_WAITING

    @property
    def stuck(self) -> bool:
        """Whether one batch takes so long that only a restart can help."""
        return self._began is not None and time.monotonic() - self._began > STUCK_S

    def ask(self, processor: TurnProcessor, said: List[Said]) -> List[Understood]:
        """Return futures of what a model's NLU makes of each text, or of its exception where it breaks."""
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
        """Remember nothing of a model that is in use no more: it could not be given back."""
        self._before.clear()

    def stop(self) -> None:
        """Let the thread end once it is done; nothing is asked any more."""
        self.thread.shutdown(wait=False)

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                processor = self._waiting[0][0]
                batch = list(takewhile(lambda waits: waits[0] is processor, self._waiting[:MOST_AT_ONCE]))  # noqa: B023
                del self._waiting[: len(batch)]
                self._began = time.monotonic()
                found = await self._parse(processor, [said for _, said, _ in batch])
                for data, (_, each, future) in zip(found, batch, strict=True):
                    if not isinstance(data, Exception):
                        self._before.put(processor, each, data)
                    _settle(future, data)
        finally:
            self._work = self._began = None

    async def _parse(self, processor: TurnProcessor, said: List[Said]) -> List[Any]:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.thread, _understood, processor, said)
        except Exception:  # noqa: BLE001 - which text it was is found out one by one
            metrics.RETRIES.labels("nlu").inc()
        found: List[Any] = []
        for each in said:
            try:
                found += await loop.run_in_executor(self.thread, _understood, processor, [each])
            except Exception as error:  # noqa: BLE001 - the turn answers for it
                found.append(error)
        return found


def _understood(processor: TurnProcessor, said: List[Said]) -> List[Dict[str, Any]]:
    """Run NLU and note what it cost. In NLU's thread."""
    began = time.thread_time()
    try:
        return processor.parse_batch(BATCH_NAME, [text for text, _ in said], [ts for _, ts in said])
    finally:
        metrics.NLU_CPU_SECONDS.inc(time.thread_time() - began)
        metrics.NLU_TEXTS.inc(len(said))


def _settle(future: Understood, data: Any) -> None:
    if isinstance(data, Exception):
        future.set_exception(data)
        future.exception()  # seen: asyncio would else log it, with its text, where no turn asks for it
    else:
        future.set_result(data)
