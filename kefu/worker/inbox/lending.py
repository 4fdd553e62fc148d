"""Lends messages to a release's candidate, and takes back those that the candidate doesn't answer.

In: a message of `user.query` whose conversation the candidate answers. Out: the message on `user.query.candidate`, in
the partition of the same number; and whether its marker has appeared. The lender keeps the message in its lane, so that
the conversation keeps the inbox's order. The marker makes sure that only one of the two workers does the message.
"""

import asyncio
import logging
import time
from typing import Callable

from kefu import metrics
from kefu.errors import QueueUnavailable, RecordRefused, StoreUnavailable
from kefu.events import CANDIDATE_QUERY, InboxEvent, UserSaid
from kefu.kafka import EventProducer
from kefu.worker.inbox.message import Inbound
from kefu.worker.inbox.patience import Patience
from kefu.worker.intake.records import Record
from kefu.worker.release.tracks import Tracks
from kefu.worker.storage.conversations import Conversations

logger = logging.getLogger(__name__)

LOOK_S = 0.02  # between two look-ups of a lent message's marker
# The wait for a candidate's answer: at most LEND_S, and at most LEND_SHARE of a turn's deadline. The rest of the
# deadline is for the lender's own turn.
LEND_S = 3.0
LEND_SHARE = 0.3
# If the candidate stops reading, or the canary ends, the lender waits at most this long for a message that is already
# lent: the candidate may have begun its turn.
GONE_S = 1.0
REST_S = 60.0  # nothing is lent for this long after an unanswered message, so that a bad candidate delays few customers
DECLINED_S = 60  # lifetime of the key by which a candidate declines a message


class Candidate:
    """Lends messages to the candidate track, for a worker that reads `user.query`."""

    def __init__(
        self,
        tracks: Tracks,
        conversations: Conversations,
        producer: EventProducer,
        deadline_s: float,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the lending; no message is lent yet.

        Args:
            tracks: tells whether there is a candidate, and which conversations it answers.
            conversations: the store of the markers.
            producer: sends to `user.query.candidate`.
            deadline_s: a turn's deadline; the wait for the candidate's answer is a part of it.
            most: how many messages may be lent at once. Beyond it the lender processes messages itself, so that a slow
                candidate does not hold up all messages in flight.
            clock: monotonic, in s.
        """
        self._tracks, self._conversations, self._producer = tracks, conversations, producer
        self._limit_s, self._clock = min(LEND_S, LEND_SHARE * deadline_s), clock
        self._most, self._out = most, 0  # `_out` counts the messages that are lent now
        self._rests_until = clock()  # nothing is lent before this time

    def gets(self, record: Record, conversation: str) -> bool:
        """Return whether to lend this message. A message that was lent to this worker is never lent on."""
        if lent(record) or self._clock() < self._rests_until:
            return False
        return self._tracks.lends(conversation)

    async def does(self, message: Inbound, patience: Patience) -> bool:
        """Lend a message once, if the candidate is to answer it; return whether the candidate has stored its outcome.

        Args:
            message: its `kept` is set, so that it is lent only once, and its `lent_s` is the time that lending took.
            patience: repeats the message's calls while Redis is away.
        """
        event = message.event
        if message.kept or not self.gets(message.record, event.conversation):
            return False
        message.kept = True
        if self._out >= self._most:
            metrics.LENT.labels("full").inc()
            return False
        # If the conversation has expired, a timer or desk event gets no marker, so the lender would wait in vain.
        if type(event) is not UserSaid:
            version, _ = await patience(self._conversations).position(event.conversation)
            if not version:
                return False
        self._out += 1
        begun = self._clock()
        try:
            return await self._answers(message.record, event, message.mine)
        finally:
            self._out -= 1
            message.lent_s = min(self._limit_s, self._clock() - begun)

    async def _answers(self, record: Record, event: InboxEvent, mine: Callable[[], bool]) -> bool:
        """Write the record to the candidate's topic; return whether the candidate stores an outcome in time."""
        until = self._clock() + self._limit_s
        try:
            sent = self._producer.send(CANDIDATE_QUERY, record.key, record.value, None, record.partition)
            # If the record arrives after the time-out, one of the two workers finds the other's marker, so the message
            # is answered once.
            await asyncio.wait_for(asyncio.shield(sent), self._limit_s)
        except (QueueUnavailable, RecordRefused, asyncio.TimeoutError) as error:
            return self._back("unsent", str(error))
        outcome = await self._outcome(event, mine, until)
        if outcome == "answered":
            metrics.LENT.labels(outcome).inc()
            return True
        return bool(outcome) and self._back(outcome, "")

    async def _outcome(self, event: InboxEvent, mine: Callable[[], bool], until: float) -> str:
        """Wait for the outcome of a lent message: answered, declined, late or gone; empty if the partition was lost."""
        keys = self._conversations.keys(event.conversation)
        marker, declined = keys.marker(event.message_id), keys.declined(event.message_id)
        while mine() and self._clock() < until:
            await asyncio.sleep(LOOK_S)
            if not self._tracks.lends(event.conversation):
                until = min(until, self._clock() + GONE_S)
            try:
                ((stored, refused),) = await self._conversations.servers.on(marker, ("MGET", marker, declined))
            except StoreUnavailable:
                continue
            if stored is not None:
                return "answered"
            if refused is not None:
                return "declined"
        if not mine():
            return ""
        return "late" if self._tracks.lends(event.conversation) else "gone"

    async def decline(self, event: InboxEvent) -> None:
        """Let the lender know, by a key in Redis, that this worker, the candidate, can't process the message.

        Raises:
            StoreUnavailable: Redis is away.
        """
        key = self._conversations.keys(event.conversation).declined(event.message_id)
        await self._conversations.servers.on(key, ("SET", key, "1", "EX", DECLINED_S))

    def _back(self, why: str, error: str) -> bool:
        """Count a message that the candidate did not answer, and lend nothing for REST_S. Returns False."""
        metrics.LENT.labels(why).inc()
        if why == "gone":
            return False
        self._rests_until = self._clock() + REST_S
        logger.error("the candidate did not answer", extra={"fields": {"why": why, "error": error}})
        return False


def lent(record: Record) -> bool:
    """Return whether a record was lent to this worker; its lender stays responsible for it."""
    return record.topic.endswith(CANDIDATE_QUERY)
