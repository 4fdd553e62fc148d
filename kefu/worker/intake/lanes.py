"""Each conversation in order, one message at a time; different conversations side by side."""

import asyncio
import logging
from collections import deque
from typing import Awaitable, Callable, Deque, Dict, Generic, TypeVar

logger = logging.getLogger(__name__)
Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """Queues by conversation, each served by one task while it holds anything.

    Bounded by whoever fills it: the intake takes no more from Kafka than its limit.
    """

    def __init__(self, serve: Callable[[Item], Awaitable[None]]) -> None:
        self._serve = serve
        self._queues: Dict[str, Deque[Item]] = {}
        self._tasks: Dict[str, asyncio.Task[None]] = {}

    def put(self, conversation: str, item: Item) -> None:
        """Queue an item behind those of its conversation. Doesn't block."""
        queue = self._queues.get(conversation)
        if queue is None:
            queue = self._queues[conversation] = deque()
            self._tasks[conversation] = asyncio.ensure_future(self._run(conversation, queue))
        queue.append(item)

    async def _run(self, conversation: str, queue: Deque[Item]) -> None:
        try:
            while queue:
                try:
                    await self._serve(queue[0])
                finally:
                    queue.popleft()
        finally:
            del self._queues[conversation]
            del self._tasks[conversation]

    async def cancel(self) -> None:
        """Stop all lanes where they are."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
