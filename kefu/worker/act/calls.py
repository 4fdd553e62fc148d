"""ACT: what the turn under way tells its calls: their deadline, its place, whether it is rehearsed."""

import asyncio
import contextlib
import contextvars
from dataclasses import dataclass, field
from typing import AsyncIterator, Dict, Optional


@dataclass
class ActionCalls:
    """What the calls of one turn share: their message, their end, and how many there were of each."""

    message_id: str
    deadline: float  # of the monotonic clock, in s
    made: Dict[str, int] = field(default_factory=dict)
    waited_s: float = 0.0

    def key(self, action: str) -> str:
        """Return the idempotency key of the next call; the same again when the turn runs again."""
        ordinal = self.made.get(action, 0)
        self.made[action] = ordinal + 1
        return f"{self.message_id}:{action}:{ordinal}"


class Place:
    """A turn's place among those at work, an async context manager.

    More at once only make each wait longer for the event loop, until calls time out for nothing. A turn that waits for
    the action server works at nothing: it gives its place to others meanwhile, and a slow action holds up nobody else.
    """

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._held = False

    async def __aenter__(self) -> "Place":
        """Wait for a place."""
        await self._places.acquire()
        self._held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give it back."""
        if self._held:
            self._places.release()
            self._held = False

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Give the place to others while something else is waited for.

        Who ran out of time goes on without: there is only that to tell, and no time to wait for it.
        """
        await self.__aexit__()
        late = False
        try:
            yield
        except asyncio.CancelledError:
            late = True
            raise
        finally:
            if not late:
                await self.__aenter__()


# Whether the turn under way is rehearsed: then nobody is called.
REHEARSED: "contextvars.ContextVar[bool]" = contextvars.ContextVar("kefu_rehearsed", default=False)
# The place of the turn under way, see `Place`; None where turns have none (`rasa shell`).
PLACE: "contextvars.ContextVar[Optional[Place]]" = contextvars.ContextVar("kefu_place", default=None)
CALLS: "contextvars.ContextVar[Optional[ActionCalls]]" = contextvars.ContextVar("kefu_action_calls", default=None)
