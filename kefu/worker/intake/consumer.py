"""Takes polls of messages from Kafka and commits what is done, up to the lowest unfinished one.

A thread polls, so that the event loop never waits for Kafka; batches and rebalances are handed to
the loop. Offsets are committed only after `done`, which is called after storing and publishing.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Dict, List, Optional, Set

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kefu import metrics
from kefu.events import CANDIDATE_QUERY, USER_QUERY
from kefu.kafka import METADATA_REFRESH_MS, damped_errors
from kefu.settings import KafkaSettings, WorkerSettings
from kefu.worker.intake import lag
from kefu.worker.intake.records import Record

logger = logging.getLogger(__name__)

POLL_S = 0.05
# Who has so many in flight gains nothing by taking the next at once: with others NLU, the write and the change of
# threads cost each less. See ops/decisions/0011
BUSY_FROM = 8
GATHER_S = 0.005
PATIENCE_S = 0.5  # to get room, before those that take it up are paused
LAG_EVERY_S = 1.0
ROOM_CHECK_S = 0.002
MOST_CHECK_S = 10 * ROOM_CHECK_S  # of waiting that a check counts: who stood still for longer made no room meanwhile
MOST_LIMITS = 8  # in flight altogether, when one partition after the other gets stuck and keeps what it has taken
COMMIT_EVERY_POLLS = 4
REVOKE_S = 2.0  # what runs then waits for the action server
SESSION_TIMEOUT_MS = 10_000  # a worker killed with -9 gives its partitions back after this
# Of records as they lie in Kafka, compressed to a tenth: a backlog is fetched in pieces that memory doesn't notice.
# A partition gives a whole batch at least, however large.
MAX_FETCH_BYTES = 1024 * 1024


@dataclass
class Partition:
    """A partition while it is this worker's; given away, it never becomes ours again: a new one does."""

    number: int
    mine: bool = True
    unfinished: Deque[int] = field(default_factory=deque)
    finished: Set[int] = field(default_factory=set)
    committable: Optional[int] = None
    committed: Optional[int] = None
    abandoned: int = 0

    @property
    def load(self) -> int:
        """How many messages are taken and neither done with nor abandoned."""
        return len(self.unfinished) - len(self.finished) - self.abandoned

    def take(self, offset: int) -> None:
        """Note a message taken."""
        self.unfinished.append(offset)

    def done(self, offset: int) -> None:
        """Note a message done with; the offset to commit moves up to the lowest unfinished one."""
        self.finished.add(offset)
        while self.unfinished and self.unfinished[0] in self.finished:
            first = self.unfinished.popleft()
            self.finished.remove(first)
            self.committable = first + 1


@dataclass
class Taken:
    """A record with the partition that it was taken from, and by whom: a worker may read another inbox meanwhile."""

    record: Record
    partition: Partition
    intake: "Intake"

    def mine(self) -> bool:
        """Return whether this worker still owns the partition."""
        return self.partition.mine


Receive = Callable[[List[Taken]], None]
Dropped = Callable[[Set[int]], None]


class Intake:
    """The consumer of an inbox. `start` and `stop` belong to the event loop's thread."""

    def __init__(
        self,
        kafka: KafkaSettings,
        worker: WorkerSettings,
        receive: Receive,
        hold: Callable[[], bool],
        dropped: Dropped,
        inbox: str = USER_QUERY,
    ) -> None:
        """Prepare; connects at `start`.

        Args:
            kafka: where to connect, and the topics' prefix.
            worker: how much to take at a time and to have in flight.
            receive: called in the loop with each poll; must not block.
            hold: whether to take nothing for now (the store is away).
            dropped: called in the loop with partitions that are no longer this worker's.
            inbox: `user.query`, or `user.query.candidate`, which has a group of its own.
        """
        self.inbox = inbox
        self._topic = kafka.topic_prefix + inbox
        self._limit = worker.inflight_messages
        self._poll_messages = worker.poll_messages
        self._drain_s = worker.drain_s
        self._receive = receive
        self._hold = hold
        self._dropped = dropped
        self._partitions: Dict[int, Partition] = {}
        self._lock = threading.Lock()
        self._inflight = 0
        self.served = 0  # how many messages have been done with, since the start
        self._paused: Set[int] = set()  # only the intake's thread uses it
        self._stopping = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self.failure: Optional[str] = None
        self.connected = False
        self._commit_fails = False
        group = kafka.candidate_group if inbox == CANDIDATE_QUERY else kafka.group
        self._consumer = Consumer({**_consumer_config(kafka, group), "on_commit": self._on_commit})

    @property
    def assigned(self) -> List[int]:
        """The partitions that are this worker's."""
        with self._lock:
            return sorted(self._partitions)

    @property
    def inflight(self) -> int:
        """How many messages have been taken and are not done with."""
        return self._inflight

    def start(self) -> None:
        """Join the group and begin to poll, in a thread."""
        self._loop = asyncio.get_running_loop()
        self._consumer.subscribe(
            [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        self._thread = threading.Thread(target=self._run, name="kafka-intake", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Finish what is under way within the drain time, commit, leave the group."""
        self._stopping.set()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, self._drain_s + 10)

    def done(self, taken: Taken) -> None:
        """Note that a message has been stored and published. In the loop's thread."""
        with self._lock:
            self._inflight -= 1
            self.served += 1
            taken.partition.done(taken.record.offset)
        metrics.INFLIGHT.set(self._inflight)

    def abandoned(self, taken: Taken) -> None:
        """Note that a message is somebody else's now; its offset stays uncommitted. In the loop's thread."""
        with self._lock:
            self._inflight -= 1
            taken.partition.abandoned += 1
        metrics.INFLIGHT.set(self._inflight)

    def _run(self) -> None:
        try:
            polls, measured = 0, 0.0
            while not self._stopping.is_set():
                self._pause_or_resume(room=self._wait_for_room())
                self._deliver(self._poll())
                polls += 1
                if polls % COMMIT_EVERY_POLLS == 0:
                    self._commit()
                if time.monotonic() - measured > LAG_EVERY_S:
                    self._measure_lag()
                    measured = time.monotonic()
            # close() revokes all partitions: what is under way is finished, and committed.
            self._consumer.close()
        except BaseException as error:  # the thread's end must be seen, see `failure`
            logger.exception("intake failed")
            self.failure = error.__class__.__name__

    def _poll(self) -> List[Message]:
        """Return what is there as soon as anything is, a busy worker a little later, when there is more.

        `consume` alone would wait to fill its number.
        """
        first = self._consumer.poll(POLL_S)
        if first is None:
            return []
        if self._inflight >= BUSY_FROM:
            time.sleep(GATHER_S)  # this is the intake's own thread
        return [first, *self._consumer.consume(self._poll_messages - 1, 0)] if self._poll_messages > 1 else [first]

    def _deliver(self, messages: List[Message]) -> None:
        batch = []
        for message in messages:
            if message.error() is not None:
                logger.warning("poll failed", extra={"fields": {"kafka_error": message.error().name()}})
                continue
            partition = self._partitions.get(message.partition())
            if partition is None:
                continue
            batch.append(Taken(Record.of(message), partition, self))
        if not batch:
            return
        with self._lock:
            for taken in batch:
                taken.partition.take(taken.record.offset)
            self._inflight += len(batch)
        metrics.POLL_MESSAGES.observe(len(batch))
        metrics.INFLIGHT.set(self._inflight)
        self._loop.call_soon_threadsafe(self._receive, batch)

    def _pause_or_resume(self, room: bool) -> None:
        """Pause the partitions that leave no room to the others, all while asked to hold; go on at half of a share.

        A pause is dear, for the client forgets what it had fetched and begins again about a second later: a worker that
        is only busy must get along without. By partition, so that one customer's slow lane stops nobody on others.
        """
        loads, share = self._loads(), self._share
        hold = not room and (self._hold() or self._inflight >= MOST_LIMITS * self._limit)
        wanted = {
            number
            for number, held in loads.items()
            if hold or (number in self._paused and held > share // 2) or (not room and held >= share)
        }
        if wanted - self._paused:
            self._consumer.pause([TopicPartition(self._topic, number) for number in wanted - self._paused])
        if self._paused - wanted:
            self._consumer.resume([TopicPartition(self._topic, number) for number in self._paused - wanted])
        self._paused = wanted

    def _wait_for_room(self) -> bool:
        """Wait until there is room for a poll and nobody holds it back, not for long; return whether it is so."""
        waited, now = 0.0, time.monotonic()
        while self._hold() or self._taken_room() >= self._limit:
            if waited > PATIENCE_S or self._stopping.is_set():
                return False
            time.sleep(ROOM_CHECK_S)  # this is the intake's own thread
            before, now = now, time.monotonic()
            waited += min(now - before, MOST_CHECK_S)
        return True

    def _taken_room(self) -> int:
        """Return how many messages are in flight; of a paused partition no more than its share counts."""
        share = self._share
        return sum(min(held, share) if number in self._paused else held for number, held in self._loads().items())

    @property
    def _share(self) -> int:
        """How many messages in flight a partition may have when all have many."""
        return max(1, self._limit // max(1, len(self._partitions)))

    def _loads(self) -> Dict[int, int]:
        with self._lock:
            return {number: partition.load for number, partition in self._partitions.items()}

    def _measure_lag(self) -> None:
        """Tell how many messages wait: those that were not taken, and those in flight."""
        metrics.INBOX_LAG.set(self._inflight + lag.waiting(self._consumer, self._topic, self._loads(), self._paused))

    def _commit(self, only: Optional[Set[int]] = None, wait: bool = False) -> None:
        with self._lock:
            due = [
                partition
                for partition in self._partitions.values()
                if partition.committable not in (None, partition.committed)
                and (only is None or partition.number in only)
            ]
            offsets = [TopicPartition(self._topic, partition.number, partition.committable) for partition in due]
            for partition in due:
                partition.committed = partition.committable
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=not wait)
        except KafkaException as error:
            self._on_commit(error.args[0], offsets)

    def _on_commit(self, error: Optional[KafkaError], offsets: List[TopicPartition]) -> None:
        """Note what Kafka did not take, to commit it again; an idle partition would else lag for ever.

        Not committed is harmless otherwise: the messages come again and find their markers.
        """
        failed = {offset.partition: error or offset.error for offset in offsets if error or offset.error}
        with self._lock:
            for number in failed.keys() & self._partitions.keys():
                self._partitions[number].committed = None
        if failed and not self._commit_fails:  # once: in a rebalance all commits fail until it is over
            names = sorted({cause.name() for cause in failed.values()})
            logger.warning("commit failed, tried again", extra={"fields": {"kafka_error": ", ".join(names)}})
        self._commit_fails = bool(failed)

    def _on_assign(self, consumer: Consumer, partitions: List[TopicPartition]) -> None:
        with self._lock:
            for partition in partitions:
                self._partitions[partition.partition] = Partition(partition.partition)
        consumer.incremental_assign(partitions)
        consumer.resume(partitions)  # one that went away paused is paused still: the client keeps that
        self.connected = True
        logger.info("partitions assigned", extra={"fields": {"partitions": [p.partition for p in partitions]}})

    def _on_revoke(self, consumer: Consumer, partitions: List[TopicPartition]) -> None:
        numbers = {partition.partition for partition in partitions}
        leaving = [self._partitions[number] for number in numbers if number in self._partitions]
        for partition in leaving:
            partition.mine = False  # what has not begun is not begun any more
        self._wait_until_done(leaving)
        self._commit(numbers, wait=True)
        self._forget(numbers)
        consumer.incremental_unassign(partitions)
        logger.info("partitions revoked", extra={"fields": {"partitions": sorted(numbers)}})

    def _on_lost(self, consumer: Consumer, partitions: List[TopicPartition]) -> None:
        numbers = {partition.partition for partition in partitions}
        self.connected = False  # until it is given some again: also when no broker has answered for a session's time
        self._forget(numbers)
        consumer.incremental_unassign(partitions)
        logger.warning("partitions lost", extra={"fields": {"partitions": sorted(numbers)}})

    def _forget(self, numbers: Set[int]) -> None:
        self._paused -= numbers
        with self._lock:
            for number in numbers:
                partition = self._partitions.pop(number, None)
                if partition is not None:
                    partition.mine = False
        self._loop.call_soon_threadsafe(self._dropped, numbers)

    def _wait_until_done(self, partitions: List[Partition]) -> None:
        """Wait for the turns under way. What has not begun is abandoned.

        Nothing is polled meanwhile, so a rebalance waits a moment only: a turn that takes longer goes on, and the new
        owner's marker and version tell which of the two was first. Who leaves for good takes the drain time.
        """
        deadline = time.monotonic() + (self._drain_s if self._stopping.is_set() else REVOKE_S)
        while time.monotonic() < deadline and any(self._running(partition) for partition in partitions):
            time.sleep(0.02)  # this is the intake's own thread

    def _running(self, partition: Partition) -> bool:
        with self._lock:
            return partition.load > 0


def _consumer_config(kafka: KafkaSettings, group: str) -> Dict[str, Any]:
    """Return librdkafka's settings. Source: librdkafka CONFIGURATION.md."""
    return {
        **kafka.client_config(),
        "group.id": group,
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
