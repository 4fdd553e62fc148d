"""Polls messages from Kafka, and commits offsets up to the lowest unfinished message of each partition.

A thread polls, so that the event loop never waits for Kafka. It hands batches and rebalances to the loop. An offset is
committed only after `done`, which is called after the message was stored and published.
"""

import asyncio
import logging
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Set

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kefu import metrics
from kefu.events import CANDIDATE_QUERY, USER_QUERY
from kefu.kafka import METADATA_REFRESH_MS, damped_errors
from kefu.settings import KafkaSettings, WorkerSettings
from kefu.worker.intake import lag
from kefu.worker.intake.partitions import Partitions, Taken
from kefu.worker.intake.pressure import Pressure
from kefu.worker.intake.records import Record

logger = logging.getLogger(__name__)

POLL_S = 0.05  # the longest wait of one poll for its first message
# From this many messages in flight on, wait GATHER_S for more before taking a batch: NLU, the write and the thread
# switch then cost less per message. See ops/decisions/0011
BUSY_FROM = 8
GATHER_S = 0.005
LAG_EVERY_S = 1.0  # between two updates of the lag metric
COMMIT_EVERY_POLLS = 4  # offsets are committed once in this many polls
# How long a rebalance waits for turns under way. Only a turn that waits for the action server takes longer; it is not
# cancelled, and the marker decides between it and the new owner's turn.
REVOKE_S = 2.0
SESSION_TIMEOUT_MS = 10_000  # Kafka gives a killed worker's partitions to other workers after this time
# Limits a fetch and librdkafka's queue, so that a backlog takes little memory. The size is that of the compressed
# records, a tenth of their own. A partition gives at least one whole batch, however large.
MAX_FETCH_BYTES = 1024 * 1024


Receive = Callable[[List[Taken]], None]
Dropped = Callable[[Set[int]], None]


class Intake:
    """The Kafka consumer of `user.query` or `user.query.candidate`.

    `start` and `stop` belong to the event loop's thread.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        worker: WorkerSettings,
        receive: Receive,
        hold: Callable[[], bool],
        dropped: Dropped,
        inbox: str = USER_QUERY,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create the consumer, which joins its group at `start`.

        Args:
            kafka: where to connect, and the topics' prefix.
            worker: how many messages to take in a poll and to have in flight.
            receive: called in the loop with each poll; must not block.
            hold: whether to take nothing for now, for example because Redis is away.
            dropped: called in the loop with partitions that this worker no longer owns.
            inbox: `user.query`, or `user.query.candidate`, which has a group of its own.
            clock: monotonic, in s.
            sleep: blocks for a number of seconds; only the intake's thread calls it.
        """
        self.inbox = inbox
        self._topic = kafka.topic_prefix + inbox
        self._poll_messages = worker.poll_messages
        self._drain_s = worker.drain_s
        self._receive = receive
        self._dropped = dropped
        self._partitions = Partitions()
        self._clock, self._sleep = clock, sleep
        self._pressure = Pressure(self._partitions, worker.inflight_messages, hold, clock, sleep)
        self._stopping = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self.failure: Optional[str] = None  # the class of the error that ended the thread
        self.connected = False  # whether this worker has joined the consumer group, and has not lost its partitions
        self._commit_fails = False  # whether the last commit failed
        self._consumer = Consumer({**_consumer_config(kafka, inbox), "on_commit": self._on_commit})

    @property
    def assigned(self) -> List[int]:
        """The numbers of the partitions that this worker owns, sorted."""
        return self._partitions.numbers()

    @property
    def inflight(self) -> int:
        """How many messages were taken and are not finished."""
        return self._partitions.inflight

    @property
    def served(self) -> int:
        """How many messages were finished since the start."""
        return self._partitions.served

    def start(self) -> None:
        """Join the consumer group and start to poll, in a thread."""
        self._loop = asyncio.get_running_loop()
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        self._thread = threading.Thread(target=self._run, name="kafka-intake", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Finish the turns under way within the drain time, commit, leave the group."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, self._drain_s + 10)

    def done(self, taken: Taken) -> None:
        """Count a message as finished (stored and published), so that its offset can be committed.

        Call it in the loop's thread.
        """
        self._partitions.done(taken)
        metrics.INFLIGHT.set(self.inflight)

    def abandoned(self, taken: Taken) -> None:
        """Count a message as left to the next owner of its partition; its offset stays uncommitted.

        Call it in the loop's thread.
        """
        self._partitions.abandoned(taken)
        metrics.INFLIGHT.set(self.inflight)

    def _run(self) -> None:
        try:
            polls, measured = 0, 0.0
            while not self._stopping.is_set():
                self._pause_or_resume(room=self._pressure.wait_for_room(self._stopping.is_set))
                self._deliver(self._poll())
                polls += 1
                if polls % COMMIT_EVERY_POLLS == 0:
                    self._commit()
                if self._clock() - measured > LAG_EVERY_S:
                    self._measure_lag()
                    measured = self._clock()
            # close() revokes all partitions, so `_on_revoke` waits for the turns under way and commits.
            self._consumer.close()
        except BaseException as error:  # `failure` makes the health check fail: the thread must not end unnoticed
            logger.exception("intake failed")
            self.failure = error.__class__.__name__

    def _poll(self) -> List[Message]:
        """Wait up to POLL_S for a first message; return it and the messages that the client has fetched besides.

        A worker with BUSY_FROM messages in flight waits GATHER_S in between, so that more are fetched. `consume` alone
        would wait until it has its full number of messages.
        """
        first = self._consumer.poll(POLL_S)
        if first is None:
            return []
        if self.inflight >= BUSY_FROM:
            self._sleep(GATHER_S)
        return [first, *self._consumer.consume(self._poll_messages - 1, 0)] if self._poll_messages > 1 else [first]

    def _deliver(self, messages: List[Message]) -> None:
        """Hand the messages of the worker's own partitions to `receive`, in the event loop."""
        batch = []
        for message in messages:
            error, number = message.error(), message.partition()
            if error is not None:
                logger.warning("poll failed", extra={"fields": {"kafka_error": error.name()}})
                continue
            assert number is not None  # a delivered message always has a partition
            partition = self._partitions.get(number)
            if partition is not None:
                batch.append(Taken(Record.of(message), partition, self))
        if not batch:
            return
        self._partitions.take(batch)
        metrics.POLL_MESSAGES.observe(len(batch))
        metrics.INFLIGHT.set(self.inflight)
        self._loop.call_soon_threadsafe(self._receive, batch)

    def _pause_or_resume(self, room: bool) -> None:
        wanted, paused = self._pressure.to_pause(room), self._pressure.paused
        if wanted - paused:
            self._consumer.pause([TopicPartition(self._topic, number) for number in wanted - paused])
        if paused - wanted:
            self._consumer.resume([TopicPartition(self._topic, number) for number in paused - wanted])
        self._pressure.paused = wanted

    def _measure_lag(self) -> None:
        """Set the lag metric: the messages not taken yet, and those in flight."""
        waiting = lag.waiting(self._consumer, self._topic, self.assigned, self._pressure.paused)
        metrics.INBOX_LAG.set(self.inflight + waiting)

    def _commit(self, only: Optional[Set[int]] = None, wait: bool = False) -> None:
        moved = self._partitions.commit(only)
        offsets = [TopicPartition(self._topic, number, offset) for number, offset in moved.items()]
        if not offsets:
            return
        try:
            # The client's types allow only a literal `asynchronous`.
            self._consumer.commit(offsets=offsets, asynchronous=not wait)  # type: ignore[call-overload]
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)

    def _on_commit(self, error: Optional[KafkaError], offsets: List[TopicPartition]) -> None:
        """Have the offsets that Kafka did not accept committed again.

        If Kafka delivers their messages again before that, the messages find their markers and are not processed twice.
        """
        failed = {offset.partition: cause for offset in offsets if (cause := error or offset.error)}
        self._partitions.commit_failed(failed)
        if failed and not self._commit_fails:  # log once: during a rebalance all commits fail
            names = sorted({cause.name() for cause in failed.values()})
            logger.warning("commit failed, tried again", extra={"fields": {"kafka_error": ", ".join(names)}})
        self._commit_fails = bool(failed)

    def _on_assign(self, consumer: Consumer, partitions: List[TopicPartition]) -> None:
        self._partitions.add(partition.partition for partition in partitions)
        consumer.incremental_assign(partitions)
        consumer.resume(partitions)  # the client still pauses a partition that was revoked while paused
        self.connected = True
        logger.info("partitions assigned", extra={"fields": {"partitions": [p.partition for p in partitions]}})

    def _on_revoke(self, consumer: Consumer, partitions: List[TopicPartition]) -> None:
        numbers = {partition.partition for partition in partitions}
        self._partitions.leave(numbers)
        self._wait_until_done(numbers)
        self._commit(numbers, wait=True)
        self._forget(numbers)
        consumer.incremental_unassign(partitions)
        logger.info("partitions revoked", extra={"fields": {"partitions": sorted(numbers)}})

    def _on_lost(self, consumer: Consumer, partitions: List[TopicPartition]) -> None:
        numbers = {partition.partition for partition in partitions}
        # True again at the next assignment. Partitions are also lost when no broker answers for SESSION_TIMEOUT_MS.
        self.connected = False
        self._forget(numbers)
        consumer.incremental_unassign(partitions)
        logger.warning("partitions lost", extra={"fields": {"partitions": sorted(numbers)}})

    def _forget(self, numbers: Set[int]) -> None:
        """Drop all that this worker remembers of partitions that it no longer owns."""
        self._pressure.forget(numbers)
        self._partitions.remove(numbers)
        self._loop.call_soon_threadsafe(self._dropped, numbers)

    def _wait_until_done(self, numbers: Set[int]) -> None:
        """Wait for the turns under way in these partitions. Messages that have not begun are abandoned.

        A rebalance waits REVOKE_S, because nothing is polled meanwhile. A turn that takes longer goes on; the marker
        and the version then decide between it and the new owner's turn. A worker that stops waits the drain time.
        """
        deadline = self._clock() + (self._drain_s if self._stopping.is_set() else REVOKE_S)
        while self._clock() < deadline and self._partitions.running(numbers):
            self._sleep(0.02)


def _consumer_config(kafka: KafkaSettings, inbox: str) -> Dict[str, Any]:
    """Return librdkafka's settings. Source: librdkafka CONFIGURATION.md."""
    return {
        **kafka.client_config(),
        "group.id": kafka.candidate_group if inbox == CANDIDATE_QUERY else kafka.group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "heartbeat.interval.ms": 2000,
        "fetch.wait.max.ms": 50,
        "queued.max.messages.kbytes": MAX_FETCH_BYTES // 1024,
        "queued.min.messages": 1000,
        "fetch.max.bytes": MAX_FETCH_BYTES,
        "fetch.message.max.bytes": MAX_FETCH_BYTES // 8,
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS,
        **damped_errors(),
    }
