"""ACT: context variables by which a call of the action server knows its turn: deadline, place, and rehearsal."""

import asyncio
import contextlib
import contextvars
from dataclasses import dataclass, field
from typing import AsyncIterator, Dict, Optional


@dataclass
class ActionCalls:
    """The values that the calls of one turn share.

    Attributes:
        message_id: the id of the turn's message.
        deadline: the turn's deadline, by the monotonic clock in s.
        made: the number of calls so far, by the action's name.
        waited_s: how long the turn has waited for its calls so far.
    """

    message_id: str
    deadline: float
    made: Dict[str, int] = field(default_factory=dict)
    waited_s: float = 0.0

    def key(self, action: str) -> str:
        """Return the idempotency key of the next call. A repeated turn gets the same keys."""
        ordinal = self.made.get(action, 0)
        self.made[action] = ordinal + 1
        return f"{self.message_id}:{action}:{ordinal}"


class Place:
    """A turn's slot among the turns that run at once, as an async context manager.

    The number of places is limited, because more turns at once would only wait longer for the event loop, until their
    calls time out. A turn that waits for the action server uses no CPU, so it lends its place to others: a slow action
    delays no other turn.
    """

    def __init__(self, places: asyncio.Semaphore) -> None:
        self._places = places
        self._held = False

    async def __aenter__(self) -> "Place":
        """Wait until a place is free, and take it."""
        await self._places.acquire()
        self._held = True
        return self

    async def __aexit__(self, *_: object) -> None:
        """Free the place for another turn."""
        if self._held:
            self._places.release()
            self._held = False

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Lend the place to other turns while this one waits, and take a place again afterwards.

        A turn that was cancelled at its deadline goes on without a place. It only adds the holding reply, and has no
        time to wait for a place.
        """
        await self.__aexit__()
        cancelled = False
        try:
            yield
        except asyncio.CancelledError:
            cancelled = True
            raise
        finally:
            if not cancelled:
                await self.__aenter__()


# Whether the current turn is a rehearsal (see `turns.rehearsal`), in which no action server is called.
REHEARSED: "contextvars.ContextVar[bool]" = contextvars.ContextVar("kefu_rehearsed", default=False)
# The place of the current turn, see `Place`; None where turns have no places (`rasa shell`).
PLACE: "contextvars.ContextVar[Optional[Place]]" = contextvars.ContextVar("kefu_place", default=None)
# The current turn's `ActionCalls`; None outside a turn (`rasa shell`): a call then has no idempotency key.
CALLS: "contextvars.ContextVar[Optional[ActionCalls]]" = contextvars.ContextVar("kefu_action_calls", default=None)
