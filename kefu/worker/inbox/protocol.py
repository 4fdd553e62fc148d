"""Processes one message, in the order of the rows in the table of ops/decisions/0003-the-atomic-turn.md.

In: an `Inbound` in its lane, which is row 1. Out: after rows 2 to 5 the message is stored and published, or its
partition belongs to another worker. The caller commits the offset afterwards, never before, which is row 6.
"""

import asyncio
import logging
import time
from typing import Callable, Optional

from kefu import metrics
from kefu.codec import decode
from kefu.errors import AlreadyProcessed, PoisonMessage, VersionConflict
from kefu.events import AnswerGenerated, HandoffStarted, InboxEvent, UserSaid, now_ms
from kefu.kafka import MAX_RECORD_BYTES, EventProducer
from kefu.worker.act.calls import PLACE, Place
from kefu.worker.conversation.stored import Stored, encode_events
from kefu.worker.inbox.lending import Candidate, lent
from kefu.worker.inbox.message import Done, Inbound
from kefu.worker.inbox.patience import Backoff, NotMine, Patience, Waits, backoff_s
from kefu.worker.inbox.publishing import Publisher
from kefu.worker.intake.records import Record
from kefu.worker.storage.conversations import Conversations
from kefu.worker.storage.mending import Mender
from kefu.worker.turns.live import LiveConversation, LiveConversations
from kefu.worker.turns.outcome import Outcome
from kefu.worker.turns.runner import TurnRunner

logger = logging.getLogger(__name__)

INTERNAL_ERROR = "internal_error"  # the reason in the marker of a dead-lettered message
# Limits a turn's encoded events, so that they fit into one Kafka record: 100 kB are left for the record's other fields.
# A larger turn fails with TurnTooLarge.
MAX_EVENTS_BYTES = MAX_RECORD_BYTES - 100_000
_TOTAL_S, _STORE_S = (metrics.TURN_SECONDS.labels(stage) for stage in ("total", "store"))
_STAGES_S = {stage: metrics.TURN_SECONDS.labels(stage) for stage in ("nlu", "dialogue", "action")}
# A live tracker whose last message is older than this is read from Redis again, where it may have expired.
LIVE_IDLE_S = 30 * 60


class TurnTooLarge(Exception):
    """A turn's events don't fit into a Kafka record, so they could be neither published nor mended from Kafka."""


class Inbox:
    """Processes messages. `runner` serves the messages to come; a swap of the model replaces it."""

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
        backoff: Backoff = backoff_s,
    ) -> None:
        """Create the inbox of a worker.

        Args:
            runner: runs turns on the serving model.
            conversations: the store.
            live: the conversations in memory.
            producer: sends the turns' records and the dead letters.
            attempts: how often a failing turn is run before its message becomes a dead letter.
            turns_at_once: how many turns run side by side; further turns wait for a place.
            mender: brings back writes that Redis lost; None to mend nothing.
            candidate: the candidate of a release; None without a release.
            backoff: how long to wait in s before the n-th further attempt.
        """
        self.runner = runner
        self.conversations, self.live = conversations, live
        self.mender, self.candidate = mender, candidate
        self.publisher = Publisher(producer)
        self.attempts, self.places = attempts, asyncio.Semaphore(turns_at_once)
        self.store_lost = False  # set by the worker's watch, which asks Redis twice a second
        self.waits = Waits(backoff)

    @property
    def store_away(self) -> bool:
        """Whether Redis is away: it doesn't answer the watch, or it does and yet a message's call waits for it."""
        return self.store_lost or self.waits.for_store > 0

    async def process(self, message: Inbound) -> None:
        """Rows 2 to 5: store and publish the message's outcome. Returns only when both are acknowledged.

        Raises:
            NotMine: the partition went to another worker, which processes the message.
        """
        if type(message.event) is HandoffStarted:  # a worker sent this record, for other readers of the topic
            return
        histories = self.mender and self.mender.histories
        steps = Steps(self, message)
        done = await steps.stored()
        if done is None:  # a timer or desk event of an expired conversation, or a lent message that was declined
            return
        await self.publisher.publish(steps.patience, message.event, done)  # row 5
        if self.mender is not None and self.mender.histories != histories:
            # Redis failed over during this call, so it may have lost the turn. The mender may have read Kafka before
            # the turn was published there, so the partition must be mended again.
            self.mender.doubt(message.record.partition)
        _TOTAL_S.observe(time.monotonic() - message.taken)
        if type(message.event) is UserSaid:  # a timer's delay has a metric of its own
            metrics.ANSWER_SECONDS.observe(max(0, now_ms() - message.event.ts) / 1000)

    async def reject(self, record: Record, mine: Callable[[], bool], error: PoisonMessage) -> None:
        """Dead-letter a record that can't be read. Its sender is unknown, so no reply is sent."""
        fields = {"error_class": error.error_class, "partition": record.partition, "offset": record.offset}
        logger.error("record refused", extra={"fields": fields})
        if lent(record):
            return
        await self.publisher.put_aside(Patience(mine, self.waits), record, error.error_class, 1)
        metrics.TURNS.labels("refused").inc()


class Steps:
    """Rows 2 to 4 of one message. `patience` repeats the message's calls while Redis or Kafka is away."""

    def __init__(self, inbox: Inbox, message: Inbound) -> None:
        self._inbox, self._message = inbox, message
        self._runner = message.runner or inbox.runner
        self.patience = Patience(message.mine, inbox.waits)
        self._store = self.patience(inbox.conversations)

    async def stored(self) -> Optional[Done]:
        """Rows 2 to 4, or the dead letter: return the stored outcome; None if nothing is to be published."""
        try:
            return await self._outcome()
        except Exception as error:  # no error may block the message's lane for ever
            if isinstance(error, NotMine):
                raise
            candidate = self._inbox.candidate
            if candidate is not None and lent(self._message.record):  # the lender then processes the message itself
                await self.patience(candidate).decline(self._message.event)
                metrics.TURNS.labels("declined").inc()
                return None
            return await self._dead_letter(error)

    async def _outcome(self) -> Optional[Done]:
        """Rows 2 to 4, repeated until one succeeds: return the outcome stored by this turn or by an earlier one."""
        message = self._message
        while True:
            if not message.mine():
                raise NotMine
            try:
                return await self._attempt()
            except AlreadyProcessed:
                done = await self._again()
                if done is not None:
                    return done
            except VersionConflict as conflict:
                metrics.CONFLICTS.labels("above" if conflict.found > conflict.expected else "below").inc()
            except NotMine:
                raise
            except Exception as error:  # after the last attempt the message is dead-lettered
                message.attempts += 1
                fields = {"attempt": message.attempts, "message_id": message.event.message_id}
                logger.exception("turn failed", extra={"fields": fields})
                if message.attempts >= (1 if lent(message.record) else self._inbox.attempts):
                    raise error
            metrics.RETRIES.labels("turn").inc()
            await asyncio.sleep(self._inbox.waits.backoff_s(message.attempts))

    async def _attempt(self) -> Optional[Done]:
        """Do rows 2 to 4 once: look for the marker, lend, mend, run the turn, write it."""
        await self._look_for_marker()
        await self._lend()
        await self._mend()
        outcome = await self._run()
        return None if outcome is None else await self._write(outcome)

    async def _look_for_marker(self) -> None:
        """Row 2: raise AlreadyProcessed if the message has a marker."""
        event = self._message.event
        marker = await self._store.marker(event.conversation, event.message_id)
        if marker is not None:
            raise AlreadyProcessed(marker)

    async def _lend(self) -> None:
        """Between rows 2 and 3: raise AlreadyProcessed if a release's candidate has stored the turn."""
        candidate, message = self._inbox.candidate, self._message
        if candidate is None:
            return
        done = await candidate.does(message, self.patience)
        if message.lent_s:  # the candidate may have written to Redis: the live tracker may be stale
            self._inbox.live.check_out(message.event.conversation)
        if done:
            raise AlreadyProcessed(b"")

    async def _mend(self) -> None:
        """Before row 3: mend the message's partition if it is in doubt, for example because it was just assigned.

        The message waits for that without a place, so that a new partition does not hold up the turns of the others.
        """
        mender, partition = self._inbox.mender, self._message.record.partition
        if mender is not None and mender.in_doubt(partition):
            await self.patience(mender).settle(partition)

    async def _run(self) -> Optional[Outcome]:
        """Row 3: run the turn in memory. None for a timer or desk event whose conversation is gone."""
        message, event = self._message, self._message.event
        asked = time.monotonic()
        async with Place(self._inbox.places) as place:
            PLACE.set(place)
            if not message.mine():
                raise NotMine
            waited_s = time.monotonic() - asked
            # The tracker is loaded only now that the turn has a place. In a backlog many messages wait for a place, and
            # their trackers would not fit into memory.
            live = await self._take()
            if not live.version and type(event) is not UserSaid:  # only a customer's message begins a conversation
                metrics.TIMERS_DROPPED.labels(event.type, "gone").inc()
                return None
            # Counts against the deadline: waiting for a place, for a candidate, failed attempts. Does not count:
            # Redis being unavailable.
            begun = time.monotonic()
            spent_s = waited_s + message.lent_s + message.spent_s
            try:
                outcome = await self._runner.run(live, event, message.parsed, begun - spent_s)
            finally:
                message.spent_s += time.monotonic() - begun
        if len(outcome.write.encoded_events) > MAX_EVENTS_BYTES:
            raise TurnTooLarge
        for stage, ms in outcome.answer.stages_ms.items():
            _STAGES_S[stage].observe(ms / 1000)
        return outcome

    async def _take(self) -> LiveConversation:
        """Row 3: return the live tracker, or one read from Redis."""
        message, runner = self._message, self._runner
        event = message.event
        live = self._inbox.live.check_out(event.conversation)
        if live is not None and live.model_id == runner.model_id and not _idle(live, event):
            return live
        stored = await self._load()
        live = LiveConversation.restore(event.conversation, runner.processor.view, stored)
        live.model_id, live.partition = runner.model_id, message.record.partition
        return live

    async def _load(self) -> Stored:
        """Row 3: return the stored state, after any writes that Redis has lost were mended."""
        message, mender = self._message, self._inbox.mender
        while message.mine():
            stored = await self._store.load(message.event.conversation)
            if mender is None or not await self.patience(mender).ensure(message.record.partition, stored.history):
                return stored
        raise NotMine

    async def _write(self, outcome: Outcome) -> Done:
        """Row 4: write the turn. If Redis failed over and lost earlier writes, write those first."""
        started = time.monotonic()
        live, write, message = outcome.live, outcome.write, self._message
        conversation = message.event.conversation
        try:
            await self._store.write(conversation, write)
        except AlreadyProcessed as processed:
            if processed.marker != write.marker:
                raise
            # The marker is this write's own: the write had succeeded before a time-out, and was sent again.
        except VersionConflict as conflict:
            if conflict.found > conflict.expected:
                raise
            await self._write_again(live, conflict)
            await self._store.write(conversation, write)
        if outcome.snapshot is not None:
            live.trim(outcome.snapshot, len(outcome.events))
        live.written(write)
        # Keep the tracker only while this worker owns the partition (another worker's turns would make it stale) and
        # serves the tracker's model.
        if message.mine() and live.model_id == self._inbox.runner.model_id:
            self._inbox.live.put_back(live)
        _STORE_S.observe(time.monotonic() - started)
        metrics.TURNS.labels(outcome.answer.status).inc()
        return Done(write.marker, outcome.answer.tracker_version, write.encoded_events if write.events else b"")

    async def _write_again(self, live: LiveConversation, conflict: VersionConflict) -> None:
        """Row 4: repeat the writes that the store lost and this worker's memory still has."""
        lost = live.lost_since(conflict.found)
        fields = {"found": conflict.found, "expected": conflict.expected, "mendable": lost is not None}
        logger.error("the store lost writes of a conversation", extra={"fields": fields})
        if lost is None:
            if self._inbox.mender is not None:
                self._inbox.mender.doubt(self._message.record.partition)
            raise conflict
        for write in lost:
            try:
                await self._store.write(live.conversation, write)
                metrics.MENDED_TURNS.labels("memory").inc()
            except AlreadyProcessed as processed:
                # A marker of another turn would mean that the store's version is higher than `conflict.found`.
                if processed.marker != write.marker:
                    raise conflict from None

    async def _again(self) -> Optional[Done]:
        """Return the outcome that the marker of row 2 or 4 stands for, to publish it again (row 5).

        None if the marker is gone, because Redis has just failed over.
        """
        event = self._message.event
        turn = await self._store.turn(event.conversation, event.message_id)
        if turn is None:
            return None
        marker, events = turn
        metrics.TURNS.labels("repeated").inc()
        answer = decode(marker, AnswerGenerated)
        if answer.reason == INTERNAL_ERROR:
            # The worker that wrote the marker may have died before it sent the dead letter.
            await self._put_aside(INTERNAL_ERROR)
        return Done(marker, answer.tracker_version, encode_events(events) if events else b"")

    async def _dead_letter(self, error: Exception) -> Done:
        """Instead of rows 3 and 4: store a marker that the message failed, then send it to the dead letters."""
        message, event, mender = self._message, self._message.event, self._inbox.mender
        error_class = getattr(error, "error_class", error.__class__.__name__)
        while True:
            if mender is not None:
                await self.patience(mender).settle(message.record.partition)
            version, seq = await self._store.position(event.conversation)
            live = LiveConversation(event.conversation, None, version, seq)  # type: ignore[arg-type]
            write = self._runner.refusal(live, event, INTERNAL_ERROR).write
            try:
                await self._store.write(event.conversation, write)
                break
            except AlreadyProcessed:
                done = await self._again()
                if done is not None:
                    return done
            except VersionConflict:
                continue
        self._inbox.live.check_out(event.conversation)
        await self._put_aside(error_class)
        metrics.TURNS.labels("dead_letter").inc()
        return Done(write.marker, write.version + 1, b"")

    async def _put_aside(self, error_class: str) -> None:
        """Send the message to the dead letters."""
        message = self._message
        await self._inbox.publisher.put_aside(
            self.patience, message.record, error_class, max(1, message.attempts), message.event.traceparent
        )


def _idle(live: LiveConversation, event: InboxEvent) -> bool:
    """Return whether the live tracker's last message is older than LIVE_IDLE_S."""
    return event.ts / 1000 - (live.last_message_s or 0) > LIVE_IDLE_S
