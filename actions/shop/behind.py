"""Effects that nobody's answer depends on: tried at once, and tried on behind while the shop is slow or away."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import stamina

from actions.shop.calls import ShopUnavailable
from kefu.metrics import SHOP_BEHIND

PATIENCE_S = 300.0
PAUSES_S = (0.5, 5.0)
MOST = 1000  # of a shop that is away for long
AT_ONCE = 5  # of a shop that hangs: they share its connections with the look-ups that customers wait for
STOP_S = 5.0

logger = logging.getLogger(__name__)


class Behind:
    """What is tried behind the answers. It is lost with the process: `close` leaves it time to end.

    Args:
        pauses_s: between two tries of an effect, the first and the longest.
        most: effects that wait at a time; further ones are not told.
        stop_s: how long `close` waits.
    """

    def __init__(self, pauses_s: tuple[float, float] = PAUSES_S, most: int = MOST, stop_s: float = STOP_S) -> None:
        self._pauses_s, self._most, self._stop_s = pauses_s, most, stop_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(AT_ONCE)
        SHOP_BEHIND.set_function(lambda: len(self._tasks))

    async def run(self, effect: Callable[[], Awaitable[None]], wait_s: float) -> None:
        """Start the effect; return once it has happened, `wait_s` from now at the latest.

        Until then its caller gives no answer, and a process killed meanwhile is asked again.

        Args:
            effect: may be repeated; raises ShopUnavailable where it should be.
            wait_s: in seconds.
        """
        if len(self._tasks) >= self._most:
            logger.warning("shop not told", extra={"fields": {"reason": f"{self._most} effects wait already"}})
            return
        task = asyncio.create_task(self._patiently(effect))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait({task}, timeout=wait_s)

    async def _patiently(self, effect: Callable[[], Awaitable[None]]) -> None:
        pauses = stamina.retry_context(
            on=lambda error: isinstance(error, ShopUnavailable) and not error.refused,
            attempts=None,
            timeout=PATIENCE_S,
            wait_initial=self._pauses_s[0],
            wait_max=self._pauses_s[1],
        )
        try:
            async for attempt in pauses:
                with attempt:
                    async with self._places:
                        await effect()
        except ShopUnavailable as error:
            logger.error("shop not told", extra={"fields": {"call": error.call, "reason": error.reason}})

    async def close(self) -> None:
        """Wait for what is under way, but not long; says how much is given up."""
        if not self._tasks:
            return
        _, left = await asyncio.wait(self._tasks, timeout=self._stop_s)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            logger.error("shop not told", extra={"fields": {"reason": "stopped", "effects": len(left)}})
