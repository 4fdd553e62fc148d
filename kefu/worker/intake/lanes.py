"""Lanes: serve the messages of one conversation in order, one at a time, and different conversations side by side."""

import asyncio
import logging
from collections import deque
from typing import Awaitable, Callable, Deque, Dict, Generic, TypeVar

logger = logging.getLogger(__name__)
Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """One queue per conversation, each served by one task until it is empty.

    The queues have no bound of their own: the intake bounds how many messages are taken from Kafka.
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
        """Stop all lanes at once, even in the middle of an item."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
