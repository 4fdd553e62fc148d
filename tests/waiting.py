"""Waiting for a condition in tests, in both environments (Python 3.10 and 3.12).

A test waits for a condition, never for a fixed time. The deadline only ends a test that hangs: a test that passes never
reaches it, so one generous deadline serves all tests.
"""

import asyncio
import inspect
import time
from typing import Any, Callable, NoReturn, Tuple, Type

# Less than the 300 s after which pytest ends many system tests, so that the failure names the condition.
DEADLINE_S = 240.0
LEAST_PAUSE_S, MOST_PAUSE_S = 0.01, 0.1

Errors = Tuple[Type[BaseException], ...]


def until(condition: Callable[[], Any], what: str = "", deadline_s: float = DEADLINE_S, not_yet: Errors = ()) -> Any:
    """Return the first value of `condition` that counts as true.

    Args:
        condition: called repeatedly, with pauses of a tenth of the time waited so far, within bounds.
        what: describes the condition in the failure; by default the condition's source code. The failure also names
            the time waited and the last value or error.
        deadline_s: time after which the test fails.
        not_yet: errors that mean "not yet"; any other error ends the wait.
    """
    began = time.monotonic()
    while True:
        try:
            value = condition()
        except not_yet as error:
            value, last = None, repr(error)
        else:
            last = repr(value)
        if value:
            return value
        waited_s = time.monotonic() - began
        if waited_s >= deadline_s:
            _fail(condition, what, waited_s, last)
        time.sleep(_pause_s(waited_s))


async def eventually(
    condition: Callable[[], Any], what: str = "", deadline_s: float = DEADLINE_S, not_yet: Errors = ()
) -> Any:
    """As `until`, without blocking the event loop; `condition` may be a coroutine function."""
    began = time.monotonic()
    while True:
        try:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
        except not_yet as error:
            value, last = None, repr(error)
        else:
            last = repr(value)
        if value:
            return value
        waited_s = time.monotonic() - began
        if waited_s >= deadline_s:
            _fail(condition, what, waited_s, last)
        await asyncio.sleep(_pause_s(waited_s))


def _pause_s(waited_s: float) -> float:
    return min(max(waited_s / 10, LEAST_PAUSE_S), MOST_PAUSE_S)


def _fail(condition: Callable[[], Any], what: str, waited_s: float, last: str) -> NoReturn:
    raise AssertionError(f"waited {waited_s:.1f} s in vain for {what or _source(condition)}; last seen: {last}")


def _source(condition: Callable[[], Any]) -> str:
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):  # a built-in function, or a method implemented in C
        return repr(condition)
