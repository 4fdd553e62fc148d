"""One message seen through: marker, turn, atomic write, publication; dead letter when all fails.

In: an `Inbound` in its lane. Out: the message is stored and published, or belongs to somebody
else by now. The caller commits its offset afterwards, never before.
"""

import asyncio
import contextlib
import logging
import random
import time
from dataclasses import dataclass, field, replace
from typing import Any, Awaitable, Callable, Dict, List, NamedTuple, Optional, Tuple

from kefu import metrics
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
    DEAD_LETTERS,
    DIALOGUE_EVENTS,
    AnswerGenerated,
    InboxEvent,
    UserSaid,
    decode,
    decode_inbox,
)
from kefu.headers import ATTEMPTS, ERROR_CLASS, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC
from kefu.kafka import EventProducer
from kefu.privacy import mask, mask_all
from kefu.worker.conversations import Conversations, Stored, encode_events
from kefu.worker.live import LiveConversation, LiveConversations
from kefu.worker.mending import Mender
from kefu.worker.turn import Outcome, TurnRunner, turn_events

logger = logging.getLogger(__name__)

INTERNAL_ERROR = "internal_error"
FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 5.0
_TOTAL_S, _STORE_S, _PUBLISH_S = (metrics.TURN_SECONDS.labels(stage) for stage in ("total", "store", "publish"))
LIVE_IDLE_S = 30 * 60  # a live tracker older than this is read again: the store's own expiry may have come


@dataclass(frozen=True)
class Record:
    """A record of user.query as Kafka delivered it."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: List[Tuple[str, bytes]]


@dataclass
class Inbound:
    """A message taken from Kafka and not yet done with.

    Attributes:
        mine: whether this worker still owns the partition; a turn is not begun or repeated otherwise.
        parsed: NLU's result, which is made for the whole poll; None for a timer.
    """

    record: Record
    said: InboxEvent
    mine: Callable[[], bool]
    parsed: "Optional[asyncio.Future[Dict[str, Any]]]"
    attempts: int = 0
    taken: float = field(default_factory=time.monotonic)


class Done(NamedTuple):
    """What a message came to, stored: the encoded AnswerGenerated, its version, the encoded events (empty for none)."""

    answer: bytes
    version: int
    events: bytes


class NotMine(Exception):
    """The partition went to another worker: it will do this message."""


class Inbox:
    """Sees messages through. `runner` is swapped between two turns when a model is."""

    def __init__(
        self,
        runner: TurnRunner,
        conversations: Conversations,
        live: LiveConversations,
        producer: EventProducer,
        attempts: int,
        turns_at_once: int,
        mender: Optional[Mender] = None,
    ) -> None:
        self.runner = runner
        self._mender = mender
        self._conversations = conversations
        self._live = live
        self._producer = producer
        self._attempts = attempts
        # More turns at once only make each wait longer for the event loop, until calls time out for nothing.
        self._running = asyncio.Semaphore(turns_at_once)
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
        histories = self._mender and self._mender.histories
        try:
            done = await self._outcome(message)
        except Exception as error:  # whatever it is, the message must not block its lane for ever
            if isinstance(error, NotMine):
                raise
            done = await self._dead_letter(message, error)
        if done is None:  # a timer of a conversation that is gone
            return
        await self._publish(message, done)
        if self._mender is not None and self._mender.histories != histories:
            # A failover came in between, and what was mended may have been read before this was published.
            self._mender.doubt(message.record.partition)
        _TOTAL_S.observe(time.monotonic() - message.taken)

    async def reject(self, record: Record, mine: Callable[[], bool], error: PoisonMessage) -> None:
        """Dead-letter a record that can't be read, so that nobody can be told."""
        fields = {"error_class": error.error_class, "partition": record.partition, "offset": record.offset}
        logger.error("record refused", extra={"fields": fields})
        await self._insist(mine, "kafka", self._send_dead_letter, record, error.error_class, 1)
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
                kind = "above" if conflict.found > conflict.expected else "below"
                metrics.CONFLICTS.labels(kind).inc()
            except NotMine:
                raise
            except Exception as error:  # bounded: after the last attempt it is dead-lettered
                message.attempts += 1
                fields = {"attempt": message.attempts, "message_id": message.said.message_id}
                logger.exception("turn failed", extra={"fields": fields})
                if message.attempts >= self._attempts:
                    raise error
            metrics.RETRIES.labels("turn").inc()
            await asyncio.sleep(_backoff_s(message.attempts))

    async def _attempt(self, message: Inbound) -> "Optional[Done]":
        said = message.said
        store = self._conversations
        marker = await self._insist(message.mine, "redis", store.marker, said.conversation, said.message_id)
        if marker is not None:
            raise AlreadyProcessed(marker)
        runner = self.runner  # one model for the whole turn, whatever is swapped meanwhile
        live = await self._take(message, runner)
        if not live.version and type(said) is not UserSaid:
            metrics.TIMERS_DROPPED.labels(said.type, "gone").inc()
            return None
        # From here, not from before a Redis that was away: its messages wait, they are not put off.
        begun = time.monotonic()
        async with self._running:
            outcome = await runner.run(live, said, message.parsed, begun)
        return await self._store(message, outcome)

    async def _take(self, message: Inbound, runner: TurnRunner) -> LiveConversation:
        said = message.said
        live = self._live.check_out(said.conversation)
        if live is not None and live.model_id == runner.model_id and not _idle(live, said):
            return live
        stored = await self._load(message)
        live = LiveConversation.restore(said.conversation, runner.processor.view, stored)
        live.model_id, live.partition = runner.model_id, message.record.partition
        return live

    async def _load(self, message: Inbound) -> Stored:
        """Return what is stored, once that is sure to be all that was."""
        while message.mine():
            stored = await self._insist(message.mine, "redis", self._conversations.load, message.said.conversation)
            if self._mender is None:
                return stored
            doubt = (self._mender.ensure, message.record.partition, stored.history)
            if not await self._insist(message.mine, "redis", *doubt):
                return stored
        raise NotMine

    async def _store(self, message: Inbound, outcome: Outcome) -> "Done":
        """Write the turn; what a failed-over Redis lost is written first."""
        started = time.monotonic()
        live, write = outcome.live, outcome.write
        conversation = message.said.conversation
        try:
            await self._insist(message.mine, "redis", self._conversations.write, conversation, write)
        except AlreadyProcessed as found:
            if found.marker != write.marker:
                raise
            # Sent again after a time-out, the write has found itself: it had happened.
        except VersionConflict as conflict:
            if conflict.found > conflict.expected:
                raise
            await self._write_again(message, live, conflict)
            await self._insist(message.mine, "redis", self._conversations.write, conversation, write)
        if outcome.snapshot is not None:
            live.trim(outcome.snapshot, self.runner.processor.view, len(outcome.events))
        live.written(write)
        if message.mine():  # else another worker goes on, and this tracker would be stale when it comes back
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
                await self._insist(message.mine, "redis", self._conversations.write, live.conversation, write)
                metrics.MENDED_TURNS.labels("memory").inc()
            except AlreadyProcessed as found:
                if found.marker != write.marker:  # marker without version: not a state that a lost write leaves
                    raise conflict from None

    async def _again(self, message: Inbound) -> "Optional[Done]":
        """Return what an earlier processing stored, to be published again; None if a failover has just lost it."""
        said = message.said
        found = await self._insist(message.mine, "redis", self._conversations.turn, said.conversation, said.message_id)
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
        said = message.said
        error_class = getattr(error, "error_class", error.__class__.__name__)
        while True:
            if self._mender is not None:
                await self._insist(message.mine, "redis", self._mender.settle, message.record.partition)
            version, seq = await self._insist(message.mine, "redis", self._conversations.position, said.conversation)
            live = LiveConversation(said.conversation, None, version, seq)  # type: ignore[arg-type]
            write = self.runner.refusal(live, said, INTERNAL_ERROR).write
            try:
                await self._insist(message.mine, "redis", self._conversations.write, said.conversation, write)
                break
            except AlreadyProcessed:
                done = await self._again(message)
                if done is not None:
                    return done
            except VersionConflict:
                continue
        self._live.check_out(said.conversation)
        await self._put_aside(message, error_class)
        metrics.TURNS.labels("dead_letter").inc()
        return Done(write.marker, write.version + 1, b"")

    async def _put_aside(self, message: Inbound, error_class: str) -> None:
        attempts = max(1, message.attempts)
        trace = message.said.traceparent
        await self._insist(message.mine, "kafka", self._send_dead_letter, message.record, error_class, attempts, trace)

    async def _send_dead_letter(self, record: Record, error_class: str, attempts: int, trace: str = "") -> None:
        traced = [("traceparent", trace.encode())] if trace and "traceparent" not in dict(record.headers) else []
        headers = [
            *record.headers,
            *traced,
            (ERROR_CLASS, error_class.encode()),
            (ATTEMPTS, str(attempts).encode()),
            (ORIGIN_TOPIC, record.topic.encode()),
            (ORIGIN_PARTITION, str(record.partition).encode()),
            (ORIGIN_OFFSET, str(record.offset).encode()),
        ]
        await self._producer.send(DEAD_LETTERS, record.key, record.value, headers)

    async def _publish(self, message: Inbound, done: "Done") -> None:
        """Publish a stored turn until Kafka has all of it, under ids that stay the same."""
        said = message.said
        records = [(ANSWERS, done.answer)]
        if done.events:
            records.insert(0, (DIALOGUE_EVENTS, turn_events(said, done.version, done.events)))

        async def send_all() -> None:
            sent = [self._producer.send(topic, said.conversation, value) for topic, value in records]
            for acknowledged in sent:
                try:
                    await acknowledged
                except RecordRefused:
                    logger.error("record refused by Kafka", extra={"fields": {"message_id": said.message_id}})

        started = time.monotonic()
        await self._insist(message.mine, "kafka", send_all)
        _PUBLISH_S.observe(time.monotonic() - started)

    async def _insist(
        self, mine: Callable[[], bool], server: str, call: Callable[..., Awaitable[Any]], *arguments: Any
    ) -> Any:
        """Repeat a call until its server is back, or the partition is another's."""
        try:
            return await call(*arguments)
        except (StoreUnavailable, QueueUnavailable) as error:
            logger.warning("%s is away", server, extra={"fields": {"error": str(error)}})
        waits_for_store = int(server == "redis")
        self._waiting_for_store += waits_for_store
        try:
            return await self._until_back(mine, server, call, *arguments)
        finally:
            self._waiting_for_store -= waits_for_store

    @staticmethod
    async def _until_back(
        mine: Callable[[], bool], server: str, call: Callable[..., Awaitable[Any]], *arguments: Any
    ) -> Any:
        attempt = 0
        while mine():
            attempt += 1
            metrics.RETRIES.labels(server).inc()
            await asyncio.sleep(_backoff_s(attempt))
            with contextlib.suppress(StoreUnavailable, QueueUnavailable):
                return await call(*arguments)
        raise NotMine


def _idle(live: LiveConversation, said: InboxEvent) -> bool:
    return said.ts / 1000 - (live.last_message_s or 0) > LIVE_IDLE_S


def _backoff_s(attempt: int) -> float:
    """Return how long to wait: doubling, with jitter, so that many don't come back at once."""
    limit = min(LAST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(attempt, 10))
    return limit * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing


def read(record: Record) -> InboxEvent:
    """Return the event in a record; a message is masked: whoever wrote it may not have done so.

    Raises:
        PoisonMessage: the record can't be one of ours, or its key names another conversation.
    """
    said = decode_inbox(record.value)
    if record.key != said.conversation.encode():
        raise PoisonMessage("wrong_key", "key and conversation differ")
    if type(said) is not UserSaid:
        return said
    return replace(said, text=said.text and mask(said.text), metadata=mask_all(said.metadata))
