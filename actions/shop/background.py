"""Makes calls to the shop whose effects no reply depends on.

A call starts at once. If the shop is slow or down, a background task retries it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import stamina

from actions.shop.calls import ShopUnavailable
from kefu.metrics import SHOP_BEHIND

PATIENCE_S = 300.0  # longest time of retries for one effect; beyond it the effect is given up, with an error in the log
PAUSES_S = (0.5, 5.0)  # first and longest pause between two attempts
# Limits the effects (calls that change something in the shop, made after the customer's answer) that wait while the
# shop is down. Beyond it new ones are dropped, with a warning in the log.
MOST = 1000
# Limits these calls at a time, because they share the connections with look-ups that customers wait for. Further calls
# wait.
AT_ONCE = 5
STOP_S = 5.0  # time that `close` leaves running effects; beyond it they are cancelled

logger = logging.getLogger(__name__)


class BackgroundEffects:
    """Effects that run in the background. They are lost with the process; `close` gives them time to finish.

    Args:
        pauses_s: first and longest pause between two attempts of an effect.
        most: most effects that wait at a time; further ones are dropped.
        stop_s: longest time that `close` waits.
    """

    def __init__(self, pauses_s: tuple[float, float] = PAUSES_S, most: int = MOST, stop_s: float = STOP_S) -> None:
        self._pauses_s, self._most, self._stop_s = pauses_s, most, stop_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(AT_ONCE)
        SHOP_BEHIND.set_function(lambda: len(self._tasks))

    async def run(self, effect: Callable[[], Awaitable[None]], wait_s: float) -> None:
        """Start the effect; return when it has happened, or after `wait_s`.

        The action answers the worker only after that. If this process is killed before, the worker calls the action
        again, so the effect is tried again.

        Args:
            effect: makes the call. It may run more than once; ShopUnavailable means that it should.
            wait_s: longest time to wait for the effect, in seconds.
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
        """Wait up to `stop_s` for running effects, then cancel the rest and log their number."""
        if not self._tasks:
            return
        _, left = await asyncio.wait(self._tasks, timeout=self._stop_s)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            logger.error("shop not told", extra={"fields": {"reason": "stopped", "effects": len(left)}})
