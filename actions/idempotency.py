"""Gives a call of an action one result and one effect, even when two workers make the same call.

Two workers may both run a turn before either writes it. They give their calls the same idempotency key. Within one
action server, `Answers` returns the same result to both. If the calls reach two replicas, the company's systems have to
recognise them: `current_key` goes with every side effect as its Idempotency-Key.
"""

import asyncio
import hashlib
import time
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import orjson

from kefu.metrics import ACTION_ANSWERS

LIMIT = 10_000  # limits the answers kept; beyond it the oldest is dropped
LIFETIME_S = 600.0  # how long an answer is kept; a call that is repeated later runs the action again

current_key: ContextVar[str | None] = ContextVar("current_key", default=None)


def effect_key(ordinal: int = 1) -> str:
    """Return the key of this call's `ordinal`th effect. A repeated call gets the same key.

    `rasa shell` gives its calls no key, so there every effect gets a new key.
    """
    key = current_key.get()
    return f"{key}-{ordinal}" if key is not None else uuid.uuid4().hex


def scoped(key: str, conversation: str) -> str:
    """Return the key for the shop, made unique by the conversation: two customers may choose the same message id."""
    return hashlib.sha256(f"{conversation}\n{key}".encode()).hexdigest()


def with_input(key: str, tracker: dict[str, Any]) -> str:
    """Return the key under which an answer is kept. It includes the tracker's state, which the answer depends on."""
    state = [tracker.get("slots"), (tracker.get("latest_message") or {}).get("text"), tracker.get("active_loop")]
    return key + hashlib.sha256(orjson.dumps(state, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Answers:
    """Running and finished answers by key; the oldest are dropped first.

    Args:
        limit: most answers kept.
        lifetime_s: seconds that an answer is kept.
        clock: clock that measures the lifetime, in seconds.
    """

    def __init__(
        self, limit: int = LIMIT, lifetime_s: float = LIFETIME_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, asyncio.Future[bytes]]] = OrderedDict()

    async def once(self, key: str, run: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the answer kept for a key; if there is none, run the action by `run`.

        A failure is raised in all callers that wait for it, and is not kept.
        """
        self._forget_old()
        kept = self._kept.get(key)
        if kept is None:
            task = asyncio.ensure_future(run())
            task.add_done_callback(lambda task: self._settle(key, task))
            kept = self._kept[key] = (self._clock(), task)
        # Shielded: a caller that hangs up must not cancel the work that another caller waits for.
        return await asyncio.shield(kept[1])

    def _forget_old(self) -> None:
        oldest = self._clock() - self._lifetime_s
        while self._kept and (len(self._kept) >= self._limit or next(iter(self._kept.values()))[0] < oldest):
            self._kept.popitem(last=False)
        ACTION_ANSWERS.set(len(self._kept))

    def _settle(self, key: str, task: "asyncio.Future[bytes]") -> None:
        """Drop a failed task; replace a finished one by its answer. A kept task would keep its request in memory."""
        kept = self._kept.get(key)
        if kept is None or kept[1] is not task:
            return
        if task.cancelled() or task.exception() is not None:
            del self._kept[key]
            return
        answer: asyncio.Future[bytes] = task.get_loop().create_future()
        answer.set_result(task.result())
        self._kept[key] = (kept[0], answer)
