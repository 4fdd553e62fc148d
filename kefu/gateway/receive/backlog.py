"""How many messages of one conversation may wait for their answers at once.

A worker takes the messages of a conversation one after another, so that a customer who sends faster than he is
answered holds up whoever shares his partition. What was accepted here and has not been seen answered is counted
in this process: N replicas allow N times as much. Nothing is written for it, and it never needs Redis.
"""

import time
from collections import OrderedDict
from typing import Awaitable, Callable, Dict, List

from kefu import metrics
from kefu.errors import StoreUnavailable
from kefu.gateway.problems import too_soon

MAX_COUNTED = 100_000  # messages, about 200 bytes each; beyond it the conversations longest quiet are forgotten
COUNTED_S = 600.0  # a message older than this holds nobody up: its marker may be gone with a Redis that was lost
LOOK_EVERY_S = 0.5
RETRY_S = 2.0
Answered = Callable[[str, List[str]], Awaitable[List[bool]]]


class _Waiting:
    """The messages of one conversation, by id the time of their acceptance, oldest first."""

    def __init__(self) -> None:
        self.messages: Dict[str, float] = {}
        self.last_at = 0.0
        self.looked_at = -LOOK_EVERY_S


class Backlog:
    """Counts unanswered messages by conversation.

    Hints tell of answers where somebody listens. Where nobody does, the stored outcomes are looked at once the limit
    is reached, at most every LOOK_EVERY_S. Accepting needs Kafka alone: while Redis is away, the oldest message is
    taken for answered at each look.

    Args:
        limit: messages of a conversation, 0 for no limit.
        answered: tells of each message whether its outcome is stored; raises StoreUnavailable.
        clock: monotonic, in s.
    """

    def __init__(self, limit: int, answered: Answered, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._answered = answered
        self._clock = clock
        self._conversations: OrderedDict[str, _Waiting] = OrderedDict()
        self._counted = 0
        metrics.UNANSWERED.set_function(lambda: self._counted)

    async def admit(self, conversation: str, message_id: str) -> None:
        """Count a message that is about to be accepted; one that is counted already passes.

        Raises:
            Problem: 429 with Retry-After.
        """
        waiting = self._conversations.get(conversation)
        if waiting is not None and len(waiting.messages) >= self._limit and message_id not in waiting.messages:
            self._drop_old(conversation, waiting)
            if len(waiting.messages) >= self._limit:
                await self._look(conversation, waiting)
            if len(waiting.messages) >= self._limit:
                metrics.REFUSED.labels("unanswered").inc()
                raise too_soon("too-many-unanswered", RETRY_S, "Wait for the answers to what you said before.")
        if self._limit:
            self._count(conversation, message_id)

    def answered(self, conversation: str, message_id: str) -> None:
        """Note that a message has been answered, or was not accepted."""
        waiting = self._conversations.get(conversation)
        if waiting is not None and waiting.messages.pop(message_id, None) is not None:
            self._counted -= 1
            if not waiting.messages:
                del self._conversations[conversation]

    def _count(self, conversation: str, message_id: str) -> None:
        waiting = self._conversations.get(conversation)
        if waiting is None:
            waiting = self._conversations[conversation] = _Waiting()
        self._conversations.move_to_end(conversation)
        waiting.last_at = self._clock()
        if message_id not in waiting.messages:
            waiting.messages[message_id] = waiting.last_at
            self._counted += 1
        while (
            self._counted > MAX_COUNTED
            or next(iter(self._conversations.values())).last_at < waiting.last_at - COUNTED_S
        ):
            self._counted -= len(self._conversations.popitem(last=False)[1].messages)

    def _drop_old(self, conversation: str, waiting: _Waiting) -> None:
        before = self._clock() - COUNTED_S
        for message_id in [name for name, accepted_at in waiting.messages.items() if accepted_at < before]:
            self.answered(conversation, message_id)

    async def _look(self, conversation: str, waiting: _Waiting) -> None:
        """Drop the messages whose outcomes are stored; at most every LOOK_EVERY_S."""
        if self._clock() - waiting.looked_at < LOOK_EVERY_S:
            return
        waiting.looked_at = self._clock()
        message_ids = list(waiting.messages)
        try:
            answered = await self._answered(conversation, message_ids)
        except StoreUnavailable:
            answered = [True] + [False] * (len(message_ids) - 1)
        for message_id, done in zip(message_ids, answered, strict=True):
            if done:
                self.answered(conversation, message_id)
