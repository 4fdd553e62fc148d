"""Limits the unanswered messages of one conversation.

A worker takes the messages of a conversation one after another. A customer who sends faster than that delays the other
customers of the same partition. Each gateway process counts the messages that it has accepted and whose answers it has
not seen, so N replicas allow N times the limit. Counting writes nothing and works without Redis.
"""

import time
from collections import OrderedDict
from typing import Awaitable, Callable, Dict, List

from kefu import metrics
from kefu.errors import StoreUnavailable
from kefu.gateway.problems import too_soon

# Limits the counted messages of all conversations, about 200 bytes each. Beyond it, the conversations without a new
# message for longest are no longer counted.
MAX_COUNTED = 100_000
COUNTED_S = 600.0  # a message counts for at most this long, because it never seems answered if Redis lost its marker
LOOK_EVERY_S = 0.5  # the outcomes of one conversation are read at most this often
RETRY_S = 2.0  # the Retry-After of a refusal
Answered = Callable[[str, List[str]], Awaitable[List[bool]]]  # see `Backlog`


class _Waiting:
    """The unanswered messages of one conversation.

    Attributes:
        messages: message id to time of acceptance, oldest first.
        last_at: when the last message came.
        looked_at: when the stored outcomes were read last.
    """

    def __init__(self) -> None:
        self.messages: Dict[str, float] = {}
        self.last_at = 0.0
        self.looked_at = -LOOK_EVERY_S


class Backlog:
    """Counts unanswered messages by conversation, and refuses a message beyond the limit.

    While a conversation is watched, hints report its answers. Otherwise the stored outcomes are read once the limit is
    reached, at most every LOOK_EVERY_S. Accepting must not need Redis, so while Redis is unavailable, each such read
    counts the oldest message as answered.

    Args:
        limit: how many unanswered messages a conversation may have, 0 for no limit.
        answered: gets a conversation and message ids; returns for each message whether its outcome is stored. Raises
            StoreUnavailable.
        clock: a monotonic clock, in s.
    """

    def __init__(self, limit: int, answered: Answered, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._answered = answered
        self._clock = clock
        self._conversations: OrderedDict[str, _Waiting] = OrderedDict()
        self._counted = 0
        metrics.UNANSWERED.set_function(lambda: self._counted)

    async def admit(self, conversation: str, message_id: str) -> None:
        """Count a message that is about to be accepted as unanswered. A message that is counted already is admitted.

        Raises:
            Problem: 429 with Retry-After, the conversation is at its limit.
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
        """Remove a message from its conversation's count of unanswered messages.

        Called when the message has been answered, or when Kafka did not accept it after `admit`.
        """
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
        """Remove the messages that have been counted for COUNTED_S."""
        before = self._clock() - COUNTED_S
        for message_id in [name for name, accepted_at in waiting.messages.items() if accepted_at < before]:
            self.answered(conversation, message_id)

    async def _look(self, conversation: str, waiting: _Waiting) -> None:
        """Read the stored outcomes, and remove the answered messages from the count; at most every LOOK_EVERY_S."""
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
