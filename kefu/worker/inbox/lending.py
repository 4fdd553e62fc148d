"""Lends messages to a release's candidate, and takes back what it doesn't answer.

In: a message of `user.query` whose conversation is the candidate's. Out: the message on `user.query.candidate`, in the
partition of the same number, and, once its marker is there, the word that it is done. The lender keeps the message in
its lane, so that the conversation's order is the inbox's; whoever does it, the marker lets it happen once.
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

LOOK_S = 0.02
LEND_S = 3.0  # at most, and no more than LEND_SHARE of a turn's deadline: the rest is for the lender's own turn
LEND_SHARE = 0.3
GONE_S = 1.0  # for what a candidate had begun when it stopped to read, or the canary ended
REST_S = 60.0  # after a message that came back: a bad candidate costs few customers their time
DECLINED_S = 60


class Candidate:
    """The other track, as a worker that reads the inbox sees it."""

    def __init__(
        self,
        tracks: Tracks,
        conversations: Conversations,
        producer: EventProducer,
        deadline_s: float,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            tracks: says whether there is a candidate, and whose conversations are its.
            conversations: where the markers are.
            producer: of `user.query.candidate`.
            deadline_s: of a turn; a part of it is waited for an answer.
            most: how many to have lent at once: a slow candidate must not hold all that is in flight.
            clock: monotonic, in s.
        """
        self._tracks, self._conversations, self._producer = tracks, conversations, producer
        self._limit_s, self._clock = min(LEND_S, LEND_SHARE * deadline_s), clock
        self._most, self._out = most, 0
        self._rests_until = clock()

    def gets(self, record: Record, conversation: str) -> bool:
        """Return whether this message is to be lent: what was lent itself never is."""
        if lent(record) or self._clock() < self._rests_until:
            return False
        return self._tracks.lends(conversation)

    async def does(self, message: Inbound, patience: Patience) -> bool:
        """Lend a message that is the candidate's, once; return whether its outcome is stored.

        Args:
            message: told by `kept` that it was lent, and by `lent_s` how much of its turn's deadline that took.
            patience: the message's, for while Redis is away.
        """
        event = message.event
        if message.kept or not self.gets(message.record, event.conversation):
            return False
        message.kept = True
        if self._out >= self._most:
            metrics.LENT.labels("full").inc()
            return False
        if type(event) is not UserSaid:  # of a conversation that is gone there will be no marker
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
        until = self._clock() + self._limit_s
        try:
            sent = self._producer.send(CANDIDATE_QUERY, record.key, record.value, None, record.partition)
            # Should it arrive after all, one of the two finds the other's marker.
            await asyncio.wait_for(asyncio.shield(sent), self._limit_s)
        except (QueueUnavailable, RecordRefused, asyncio.TimeoutError) as error:
            return self._back("unsent", str(error))
        found = await self._outcome(event, mine, until)
        if found == "answered":
            metrics.LENT.labels(found).inc()
            return True
        return bool(found) and self._back(found, "")

    async def _outcome(self, event: InboxEvent, mine: Callable[[], bool], until: float) -> str:
        """Wait for what becomes of a lent message; empty when the partition is another's by then."""
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
        """Tell the lender at once that this worker, the candidate, can't do the message; raises StoreUnavailable."""
        key = self._conversations.keys(event.conversation).declined(event.message_id)
        await self._conversations.servers.on(key, ("SET", key, "1", "EX", DECLINED_S))

    def _back(self, why: str, error: str) -> bool:
        metrics.LENT.labels(why).inc()
        if why == "gone":
            return False
        self._rests_until = self._clock() + REST_S
        logger.error("the candidate did not answer", extra={"fields": {"why": why, "error": error}})
        return False


def lent(record: Record) -> bool:
    """Return whether a record was lent to this worker: another one answers for it."""
    return record.topic.endswith(CANDIDATE_QUERY)
