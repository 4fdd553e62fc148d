"""One message seen through: marker, turn, atomic write, publication; dead letter when all fails.

In: an `Inbound` in its lane. Out: the message is stored and published, or belongs to somebody
else by now. The caller commits its offset afterwards, never before.
"""

import asyncio
import logging
import random
import time
from typing import Any, Awaitable, Callable, NamedTuple, Optional

from kefu import metrics
from kefu.codec import decode
from kefu.errors import (
    AlreadyProcessed,
    PoisonMessage,
    QueueUnavailable,
    RecordRefused,
    StoreUnavailable,
    VersionConflict,
)
from kefu.events import (
    ANSWERS,
    DIALOGUE_EVENTS,
    USER_QUERY,
    AnswerGenerated,
    HandoffStarted,
    InboxEvent,
    UserSaid,
    now_ms,
)
from kefu.kafka import MAX_RECORD_BYTES, EventProducer
from kefu.worker.act.action_endpoint import PLACE, Place
from kefu.worker.conversation.stored import Stored, encode_events
from kefu.worker.inbox import dead_letters
from kefu.worker.inbox.lending import Candidate, lent
from kefu.worker.inbox.message import Inbound
from kefu.worker.inbox.publishing import handed_over
from kefu.worker.intake.records import Record
from kefu.worker.storage.conversations import Conversations
from kefu.worker.storage.mending import Mender
from kefu.worker.turns.live import LiveConversation, LiveConversations
from kefu.worker.turns.turn import Outcome, TurnRunner, turn_events

logger = logging.getLogger(__name__)

INTERNAL_ERROR = "internal_error"
FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 5.0
MAX_EVENTS_BYTES = MAX_RECORD_BYTES - 100_000  # a turn's events are published with who, when and which before them
_TOTAL_S, _STORE_S, _PUBLISH_S = (metrics.TURN_SECONDS.labels(stage) for stage in ("total", "store", "publish"))
_STAGES_S = {stage: metrics.TURN_SECONDS.labels(stage) for stage in ("nlu", "dialogue", "action")}
LIVE_IDLE_S = 30 * 60  # a live tracker older than this is read again: the store's own expiry may have come


class Done(NamedTuple):
    """What a message came to, stored: the encoded AnswerGenerated, its version, the encoded events (empty for none)."""

    answer: bytes
    version: int
    events: bytes


class TurnTooLarge(Exception):
    """A turn's events are more than Kafka takes as a record; nobody could mend or read them."""


class NotMine(Exception):
    """The partition went to another worker: it will do this message."""


class Inbox:
    """Sees messages through. `runner` is that of the messages to come: of another model after a swap."""

    def __init__(
        self,
        runner: TurnRunner,
        conversations: Conversations,
        live: LiveConversations,
        producer: EventProducer,
        attempts: int,
        turns_at_once: int,
        mender: Optional[Mender] = None,
        candidate: Optional[Candidate] = None,
    ) -> None:
        self.runner = runner
        self._candidate = candidate
        self._mender = mender
        self._conversations = conversations
        self._live = live
        self._producer = producer
        self._attempts = attempts
        self._places = asyncio.Semaphore(turns_at_once)
        self.store_lost = False  # as the worker's own watch finds it
        self._waiting_for_store = 0

    @property
    def store_away(self) -> bool:
        """Whether Redis doesn't answer, or answers a ping and yet takes no write."""
        return self.store_lost or self._waiting_for_store > 0

    async def process(self, message: Inbound) -> None:
        """Store and publish what comes of the message. Ends only when that is sure.

        Raises:
            NotMine: the partition was taken away; nothing more is to be done here.
        """
        if type(message.event) is HandoffStarted:  # a worker's own record, for others to read
            return
        histories = self._mender and self._mender.histories
        message.runner = message.runner or self.runner
        try:
            done = await self._outcome(message)
        except Exception as error:  # whatever it is, the message must not block its lane for ever
            if isinstance(error, NotMine):
                raise
            if self._candidate is not None and lent(message.record):  # who lent it does it, and answers for it
                await self._insist(message.mine, self._candidate.decline, message.event)
                metrics.TURNS.labels("declined").inc()
                return
            done = await self._dead_letter(message, error)
        if done is None:  # a timer of a conversation that is gone, or what the desk asked of it
            return
        await self._publish(message, done)
        if self._mender is not None and self._mender.histories != histories:
            # A failover came in between, and what was mended may have been read before this was published.
            self._mender.doubt(message.record.partition)
        _TOTAL_S.observe(time.monotonic() - message.taken)
        if type(message.event) is UserSaid:  # a timer is late by its own metric
            metrics.ANSWER_SECONDS.observe(max(0, now_ms() - message.event.ts) / 1000)

    async def reject(self, record: Record, mine: Callable[[], bool], error: PoisonMessage) -> None:
        """Dead-letter a record that can't be read, so that nobody can be told."""
        fields = {"error_class": error.error_class, "partition": record.partition, "offset": record.offset}
        logger.error("record refused", extra={"fields": fields})
        if lent(record):
            return
        await self._insist(mine, dead_letters.send, self._producer, record, error.error_class, 1)
        metrics.TURNS.labels("refused").inc()

    async def _outcome(self, message: Inbound) -> "Optional[Done]":
        """Return what was stored, by this turn or by one before it."""
        while True:
            if not message.mine():
                raise NotMine
            try:
                return await self._attempt(message)
            except AlreadyProcessed:
                done = await self._again(message)
                if done is not None:
                    return done
            except VersionConflict as conflict:
                metrics.CONFLICTS.labels("above" if conflict.found > conflict.expected else "below").inc()
            except NotMine:
                raise
            except Exception as error:  # bounded: after the last attempt it is dead-lettered
                message.attempts += 1
                fields = {"attempt": message.attempts, "message_id": message.event.message_id}
                logger.exception("turn failed", extra={"fields": fields})
                if message.attempts >= (1 if lent(message.record) else self._attempts):
                    raise error
            metrics.RETRIES.labels("turn").inc()
            await asyncio.sleep(_backoff_s(message.attempts))

    async def _attempt(self, message: Inbound) -> "Optional[Done]":
        event, store = message.event, self._conversations
        marker = await self._insist(message.mine, store.marker, event.conversation, event.message_id)
        if marker is not None:
            raise AlreadyProcessed(marker)
        if self._candidate is not None:
            done = await self._candidate.does(message, self._insist)
            if message.lent_s:
                self._live.check_out(event.conversation)  # it is behind
            if done:
                raise AlreadyProcessed(b"")
        if self._mender is not None and self._mender.in_doubt(message.record.partition):
            # Without a place: who has just got a partition must not hold up the others.
            await self._insist(message.mine, self._mender.settle, message.record.partition)
        asked = time.monotonic()
        async with Place(self._places) as place:
            PLACE.set(place)
            if not message.mine():
                raise NotMine
            waited_s = time.monotonic() - asked
            # Loaded with a place only: in a backlog many more messages wait than trackers should be in memory.
            live = await self._take(message)
            if not live.version and type(event) is not UserSaid:  # nor is one brought back that the desk asks for
                metrics.TIMERS_DROPPED.labels(event.type, "gone").inc()
                return None
            # Without the time that Redis was away, its messages aren't put off; with that of waiting for a candidate,
            # and of attempts that failed.
            begun = time.monotonic()
            spent_s = waited_s + message.lent_s + message.spent_s
            try:
                outcome = await message.runner.run(live, event, message.parsed, begun - spent_s)
            finally:
                message.spent_s += time.monotonic() - begun
        if len(outcome.write.encoded_events) > MAX_EVENTS_BYTES:
            raise TurnTooLarge
        for stage, ms in outcome.answer.stages_ms.items():
            _STAGES_S[stage].observe(ms / 1000)
        return await self._store(message, outcome)

    async def _take(self, message: Inbound) -> LiveConversation:
        event, runner = message.event, message.runner
        live = self._live.check_out(event.conversation)
        if live is not None and live.model_id == runner.model_id and not _idle(live, event):
            return live
        stored = await self._load(message)
        live = LiveConversation.restore(event.conversation, runner.processor.view, stored)
        live.model_id, live.partition = runner.model_id, message.record.partition
        return live

    async def _load(self, message: Inbound) -> Stored:
        """Return what is stored, once that is sure to be all that was."""
        while message.mine():
            stored = await self._insist(message.mine, self._conversations.load, message.event.conversation)
            if self._mender is None:
                return stored
            doubt = (self._mender.ensure, message.record.partition, stored.history)
            if not await self._insist(message.mine, *doubt):
                return stored
        raise NotMine

    async def _store(self, message: Inbound, outcome: Outcome) -> "Done":
        """Write the turn; what a failed-over Redis lost is written first."""
        started = time.monotonic()
        live, write = outcome.live, outcome.write
        conversation = message.event.conversation
        try:
            await self._insist(message.mine, self._conversations.write, conversation, write)
        except AlreadyProcessed as found:
            if found.marker != write.marker:
                raise
            # Sent again after a time-out, the write has found itself: it had happened.
        except VersionConflict as conflict:
            if conflict.found > conflict.expected:
                raise
            await self._write_again(message, live, conflict)
            await self._insist(message.mine, self._conversations.write, conversation, write)
        if outcome.snapshot is not None:
            live.trim(outcome.snapshot, len(outcome.events))
        live.written(write)
        # Else another worker goes on, and this tracker would be stale when it comes back; or it is of an old model.
        if message.mine() and live.model_id == self.runner.model_id:
            self._live.put_back(live)
        _STORE_S.observe(time.monotonic() - started)
        metrics.TURNS.labels(outcome.answer.status).inc()
        return Done(write.marker, outcome.answer.tracker_version, write.encoded_events if write.events else b"")

    async def _write_again(self, message: Inbound, live: LiveConversation, conflict: VersionConflict) -> None:
        """Bring a store that lost writes back to where this worker's memory is."""
        lost = live.lost_since(conflict.found)
        fields = {"found": conflict.found, "expected": conflict.expected, "mendable": lost is not None}
        logger.error("the store lost writes of a conversation", extra={"fields": fields})
        if lost is None:
            if self._mender is not None:
                self._mender.doubt(message.record.partition)
            raise conflict
        for write in lost:
            try:
                await self._insist(message.mine, self._conversations.write, live.conversation, write)
                metrics.MENDED_TURNS.labels("memory").inc()
            except AlreadyProcessed as found:
                if found.marker != write.marker:  # marker without version: not a state that a lost write leaves
                    raise conflict from None

    async def _again(self, message: Inbound) -> "Optional[Done]":
        """Return what an earlier processing stored, to be published again; None if a failover has just lost it."""
        event = message.event
        found = await self._insist(message.mine, self._conversations.turn, event.conversation, event.message_id)
        if found is None:
            return None
        marker, events = found
        metrics.TURNS.labels("repeated").inc()
        answer = decode(marker, AnswerGenerated)
        if answer.reason == INTERNAL_ERROR:
            # Whoever marked it may have died before the dead letter was out.
            await self._put_aside(message, INTERNAL_ERROR)
        return Done(marker, answer.tracker_version, encode_events(events) if events else b"")

    async def _dead_letter(self, message: Inbound, error: Exception) -> "Done":
        """Mark the message as failed, then put it aside as it came."""
        event = message.event
        error_class = getattr(error, "error_class", error.__class__.__name__)
        while True:
            if self._mender is not None:
                await self._insist(message.mine, self._mender.settle, message.record.partition)
            version, seq = await self._insist(message.mine, self._conversations.position, event.conversation)
            live = LiveConversation(event.conversation, None, version, seq)  # type: ignore[arg-type]
            write = message.runner.refusal(live, event, INTERNAL_ERROR).write
            try:
                await self._insist(message.mine, self._conversations.write, event.conversation, write)
                break
            except AlreadyProcessed:
                done = await self._again(message)
                if done is not None:
                    return done
            except VersionConflict:
                continue
        self._live.check_out(event.conversation)
        await self._put_aside(message, error_class)
        metrics.TURNS.labels("dead_letter").inc()
        return Done(write.marker, write.version + 1, b"")

    async def _put_aside(self, message: Inbound, error_class: str) -> None:
        attempts = max(1, message.attempts)
        letter = (self._producer, message.record, error_class, attempts, message.event.traceparent)
        await self._insist(message.mine, dead_letters.send, *letter)

    async def _publish(self, message: Inbound, done: "Done") -> None:
        """Publish a stored turn until Kafka has all of it, under ids that stay the same."""
        event = message.event
        records = [(ANSWERS, done.answer)]
        if done.events:
            records.insert(0, (DIALOGUE_EVENTS, turn_events(event, done.version, done.events)))
            records += [(USER_QUERY, record) for record in handed_over(event, done.events)]

        async def send_all() -> None:
            sent = [self._producer.send(topic, event.conversation, value) for topic, value in records]
            for acknowledged in sent:
                try:
                    await acknowledged
                except RecordRefused:
                    logger.error("record refused by Kafka", extra={"fields": {"message_id": event.message_id}})

        started = time.monotonic()
        await self._insist(message.mine, send_all)
        _PUBLISH_S.observe(time.monotonic() - started)

    async def _insist(self, mine: Callable[[], bool], call: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Repeat a call until its server is back, or the partition is another's."""
        try:
            return await call(*arguments)
        except (StoreUnavailable, QueueUnavailable) as error:
            logger.warning("%s is away", _server(error), extra={"fields": {"error": str(error)}})
            return await self._until_back(mine, error, call, *arguments)

    async def _until_back(
        self, mine: Callable[[], bool], error: Exception, call: Callable[..., Awaitable[Any]], *arguments: Any
    ) -> Any:
        attempt = 0
        while mine():
            attempt += 1
            metrics.RETRIES.labels(_server(error)).inc()
            waits_for_store = isinstance(error, StoreUnavailable)
            self._waiting_for_store += waits_for_store
            try:
                await asyncio.sleep(_backoff_s(attempt))
                return await call(*arguments)
            except (StoreUnavailable, QueueUnavailable) as again:
                error = again
            finally:
                self._waiting_for_store -= waits_for_store
        raise NotMine


def _server(error: Exception) -> str:
    return "redis" if isinstance(error, StoreUnavailable) else "kafka"


def _idle(live: LiveConversation, event: InboxEvent) -> bool:
    return event.ts / 1000 - (live.last_message_s or 0) > LIVE_IDLE_S


def _backoff_s(attempt: int) -> float:
    """Return how long to wait: doubling, with jitter, so that many don't come back at once."""
    limit = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(attempt, 10))
    return limit * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing
