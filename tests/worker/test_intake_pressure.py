"""A busy worker continues to take messages; a partition that takes up all its room is paused."""

import asyncio
import threading
import time
import uuid
from collections import Counter

import pytest
import pytest_asyncio
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from kefu import metrics
from kefu.kafka import create_topics
from kefu.settings import KafkaSettings, WorkerSettings
from kefu.worker.intake.consumer import BUSY_FROM, GATHER_S, Intake
from kefu.worker.intake.partitions import Partitions, Taken
from kefu.worker.intake.pressure import MOST_CHECK_S, MOST_LIMITS, PATIENCE_S, Pressure
from kefu.worker.intake.records import Record

LIMIT, POLL = 32, 8
DEADLINE_S = 60


class Watched:
    """A consumer that counts its pauses."""

    def __init__(self, consumer):
        self._consumer = consumer
        self.pauses = Counter()

    def __getattr__(self, name):
        return getattr(self._consumer, name)

    def pause(self, partitions):
        self.pauses.update(each.partition for each in partitions)
        self._consumer.pause(partitions)


class Time:
    """The intake's clock: `rate` times the real speed; a busy intake gathers until `enough`."""

    def __init__(self):
        self.rate, self._now, self._real = 1.0, 0.0, time.monotonic()
        self.gathers, self.enough = threading.Event(), threading.Event()
        self.enough.set()

    def clock(self):
        real = time.monotonic()
        self._now += self.rate * (real - self._real)
        self._real = real
        return self._now

    def sleep(self, seconds):
        if seconds != GATHER_S:
            return time.sleep(seconds)
        self.gathers.set()
        self.enough.wait(DEADLINE_S)


class Work:
    """Stand-in for the worker: finishes messages at once, except those of partitions in `stuck`."""

    def __init__(self, brokers, kafka=None):
        self.kafka = kafka or KafkaSettings(brokers, topic_prefix=f"t{uuid.uuid4().hex[:8]}.", group=uuid.uuid4().hex)
        if kafka is None:
            create_topics(self.kafka)
        worker = WorkerSettings(action_url="http://127.0.0.1:9/", inflight_messages=LIMIT, poll_messages=POLL)
        self.time = Time()
        of_time = {"clock": self.time.clock, "sleep": self.time.sleep}
        self.intake = Intake(self.kafka, worker, self.receive, lambda: self.held, lambda numbers: None, **of_time)
        self.consumer = self.intake._consumer = Watched(self.intake._consumer)
        self.held, self.stuck = False, set()
        self.waiting, self.done = [], Counter()
        self.most = 0
        self.polls = []

    def receive(self, batch):
        self.polls.append(len(batch))
        self.most = max(self.most, self.intake.inflight)
        self.waiting += batch
        self.work()

    def work(self):
        ready = [taken for taken in self.waiting if taken.partition.number not in self.stuck]
        self.waiting = [taken for taken in self.waiting if taken.partition.number in self.stuck]
        for taken in ready:
            self.intake.done(taken)
            self.done[taken.partition.number] += 1

    async def produce(self, count, *partitions):
        await asyncio.to_thread(self._produce, count, partitions)

    def _produce(self, count, partitions):
        producer = Producer({"bootstrap.servers": self.kafka.brokers})
        for _ in range(count):
            for partition in partitions:
                producer.produce(f"{self.kafka.topic_prefix}user.query", b"x", partition=partition)
        assert producer.flush(DEADLINE_S) == 0

    def fetched_to(self, partition):
        """Return the partition's end as of the client's last fetch."""
        place = TopicPartition(f"{self.kafka.topic_prefix}user.query", partition)
        return self.consumer.get_watermark_offsets(place, cached=True)[1]

    async def until(self, holds):
        deadline = asyncio.get_running_loop().time() + DEADLINE_S
        while not holds():
            assert asyncio.get_running_loop().time() < deadline, (self.done, self.intake.inflight)
            await asyncio.sleep(0.01)


class Room:
    """Back pressure without Kafka: the test takes and finishes messages; time passes in `_sleep` alone."""

    def __init__(self, partitions=4):
        self.now, self.stalls_s, self.held, self.sleeps = 0.0, 0.0, False, 0
        self.after_sleep = lambda: None
        self.partitions = Partitions()
        self.partitions.add(range(partitions))
        self.pressure = Pressure(self.partitions, LIMIT, lambda: self.held, lambda: self.now, self._sleep)
        self._taken = {number: [] for number in range(partitions)}
        self._offset = 0

    def _sleep(self, seconds):
        self.now += seconds + self.stalls_s
        self.stalls_s, self.sleeps = 0.0, self.sleeps + 1
        self.after_sleep()

    def take(self, number, count):
        for _ in range(count):
            self._offset += 1
            record = Record("user.query", number, self._offset, b"k", b"x", [])
            self._taken[number].append(Taken(record, self.partitions.get(number), None))
        self.partitions.take(self._taken[number][-count:])

    def done(self, number, count):
        for _ in range(count):
            self.partitions.done(self._taken[number].pop(0))

    def wait(self):
        return self.pressure.wait_for_room(lambda: False)

    def pause(self):
        """Wait for room, then pause as the intake does; return the paused partitions."""
        self.pressure.paused = self.pressure.to_pause(self.wait())
        return self.pressure.paused


@pytest.fixture
def room():
    return Room()


def test_intake_with_room_neither_waits_nor_pauses(room):
    room.take(0, LIMIT - 1)
    assert room.pause() == set() and room.now == 0.0


def test_room_within_the_patience_pauses_nothing(room):
    room.take(0, LIMIT)
    room.after_sleep = lambda: room.now > PATIENCE_S / 2 and room.done(0, 1)
    assert room.pause() == set() and 0 < room.now < PATIENCE_S


def test_partition_over_its_share_is_paused(room):
    """Of its messages only the share counts from then on, so the others have room."""
    room.take(0, LIMIT)
    assert room.pause() == {0} and PATIENCE_S < room.now < PATIENCE_S + MOST_CHECK_S
    before = room.now
    assert room.wait() and room.now == before, "only the paused partition's share counts"


def test_paused_partition_resumes_at_half_of_its_share(room):
    share = LIMIT // 4
    room.take(0, LIMIT)
    room.pause()
    room.done(0, LIMIT - share // 2 - 1)
    assert room.pause() == {0}
    room.done(0, 1)
    assert room.pause() == set()


def test_held_intake_pauses_all_partitions(room):
    room.held = True
    assert room.pause() == {0, 1, 2, 3}
    room.held = False
    assert room.pause() == set()


def test_messages_beyond_the_bound_pause_all_partitions():
    room = Room(partitions=2 * MOST_LIMITS)
    paused = []
    for number in range(MOST_LIMITS):
        room.take(number, LIMIT)
        paused.append(len(room.pause()))
    assert paused == [*range(1, MOST_LIMITS), 2 * MOST_LIMITS]


def test_stalled_process_keeps_its_patience(room):
    """A stall of the process does not use up PATIENCE_S."""
    room.held, room.stalls_s = True, 10 * PATIENCE_S

    def once_the_loop_runs_again():
        room.held = room.sleeps < 2

    room.after_sleep = once_the_loop_runs_again
    assert room.wait()


def test_stopping_intake_does_not_wait_for_room(room):
    room.held = True
    assert not room.pressure.wait_for_room(lambda: True) and room.now == 0.0


@pytest_asyncio.fixture
async def work(brokers):
    work = Work(brokers)
    work.intake.start()
    await work.until(lambda: len(work.intake.assigned) == 8)
    yield work
    work.time.enough.set()
    work.stuck = set()
    work.work()
    await work.intake.stop()


async def test_stuck_partition_does_not_delay_others(work):
    work.stuck = {0, 1}
    await work.produce(10 * LIMIT, 0, 1)
    await work.until(lambda: set(work.consumer.pauses) == {0, 1})
    work.time.rate = 0.0  # patience never ends: with the stuck partitions paused, the others need none
    await work.produce(10 * LIMIT, 2, 3)
    await work.until(lambda: work.done[2] == work.done[3] == 10 * LIMIT)
    assert work.done[0] == work.done[1] == 0
    assert set(work.consumer.pauses) == {0, 1} and work.most <= 3 * (LIMIT + POLL)
    work.stuck = set()
    work.work()
    await work.until(lambda: work.done[0] == work.done[1] == 10 * LIMIT)


async def test_successively_stuck_partitions_stay_within_the_bound(work):
    for number in range(8):
        work.stuck.add(number)
        await work.produce(4 * LIMIT, number)
        await work.until(
            lambda number=number: work.intake._partitions.loads()[number] > 0 or work.intake.inflight >= LIMIT
        )
    await asyncio.sleep(1.5)
    assert LIMIT <= work.most <= MOST_LIMITS * LIMIT + POLL
    work.stuck = set()
    work.work()
    await work.until(lambda: sum(work.done.values()) == 32 * LIMIT)


async def test_busy_intake_pauses_nothing(work):
    """A pause would cost a second, because the client discards the records it has fetched."""
    work.time.rate = 0.25  # a patience of 2 s: longer than a busy machine's stalls, shorter than all holds together
    work.stuck = set(range(8))
    await work.produce(8 * LIMIT, *range(8))
    while sum(work.done.values()) < 64 * LIMIT:
        await work.until(
            lambda: len(work.waiting) >= LIMIT or sum(work.done.values()) + len(work.waiting) == 64 * LIMIT
        )
        work.held = not work.held  # a short outage of Redis, or many texts in NLU
        await asyncio.sleep(0.05)
        work.stuck, stuck = set(), work.stuck
        work.work()
        work.held, work.stuck = False, stuck
    assert not work.consumer.pauses


async def test_idle_intake_takes_at_once_busy_intake_gathers(work):
    work.time.enough.clear()
    for partition in (0, 1):
        await work.produce(1, partition)
        await work.until(lambda partition=partition: work.done[partition] == 1)
    work.stuck = {7}
    await work.produce(BUSY_FROM, 7)
    await work.until(lambda: len(work.waiting) == BUSY_FROM)
    assert not work.time.gathers.is_set()
    work.polls.clear()
    await work.produce(1, 0)
    await work.until(work.time.gathers.is_set)
    for partition, end in ((1, 2), (2, 1)):  # fetched in order: once 2's end is known, 1's message is queued
        await work.produce(1, partition)
        await work.until(lambda partition=partition, end=end: work.fetched_to(partition) == end)
    work.time.enough.set()
    await work.until(lambda: sum(work.done.values()) == 5)
    assert work.polls[0] >= 2


async def test_held_intake_keeps_its_partitions(work):
    """The worker holds the intake while Redis is unavailable."""
    work.held = True
    await work.until(lambda: len(work.consumer.pauses) == 8)
    await work.produce(4, *range(8))
    await asyncio.sleep(1)
    assert not work.done and work.intake.inflight == 0 and len(work.intake.assigned) == 8
    work.held = False
    await work.until(lambda: sum(work.done.values()) == 32)


def inbox_lag():
    return metrics.INBOX_LAG._value.get()


async def test_inbox_lag_is_measured_while_all_partitions_pause(work):
    await work.produce(2, 0)
    await work.until(lambda: work.done[0] == 2)
    work.held = True
    await work.until(lambda: len(work.consumer.pauses) == 8)
    await work.produce(100, 0, 1)  # of a partition that was read, and of one that never was
    await work.until(lambda: inbox_lag() == 200)
    await work.produce(50, 1)
    await work.until(lambda: inbox_lag() == 250)
    work.held = False
    await work.until(lambda: inbox_lag() == 0)


async def test_failed_lag_query_delays_nothing(work, monkeypatch):
    asked = []

    def silent(*_):
        asked.append(True)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    for name in ("offsets_for_times", "committed"):
        monkeypatch.setattr(work.consumer, name, silent, raising=False)
    work.held = True
    await work.until(lambda: len(work.consumer.pauses) == 8)
    await work.until(lambda: len(asked) >= 2)
    assert work.intake.failure is None
    work.held = False
    await work.produce(2, 0)
    await work.until(lambda: work.done[0] == 2)


async def test_partition_lost_while_paused_is_read_on_return(work):
    """Kafka's client keeps a partition paused while another worker owns it."""
    work.held = True
    await work.until(lambda: len(work.consumer.pauses) == 8)
    other = Work(work.kafka.brokers, work.kafka)
    other.intake.start()
    await other.until(lambda: len(other.intake.assigned) == 4)
    await work.until(lambda: len(work.intake.assigned) == 4)
    work.held = False
    await other.intake.stop()
    await work.until(lambda: len(work.intake.assigned) == 8)
    await work.produce(4, *range(8))
    await work.until(lambda: sum(work.done.values()) == 32)


async def test_rebalance_does_not_wait_for_a_slow_turn(work):
    """No partition is polled during the wait. The drain time is for a worker that shuts down."""
    work.intake._drain_s = 10 * DEADLINE_S
    work.stuck = set(range(8))
    await work.produce(1, *range(8))
    await work.until(lambda: len(work.waiting) == 8)
    other = Work(work.kafka.brokers, work.kafka)
    other.intake.start()
    await other.until(lambda: len(other.intake.assigned) == 4)
    work.stuck = set()
    kept = work.intake.assigned
    await work.until(lambda: len(work.intake.assigned) == 4)
    await work.produce(4, *work.intake.assigned)
    await work.until(lambda: all(work.done[number] >= 4 for number in work.intake.assigned))
    assert set(work.intake.assigned) <= set(kept)
    await other.until(lambda: sum(other.done.values()) == 4), "what was under way comes again to the new owner"
    await other.intake.stop()


async def test_worker_without_a_partition_is_ready(work):
    """In an update of as many workers as partitions, an old worker stops only once a new one is ready."""
    others = [Work(work.kafka.brokers, work.kafka) for _ in range(8)]
    for other in others:
        other.intake.start()
    everybody = [work, *others]
    await work.until(lambda: sorted(len(each.intake.assigned) for each in everybody) == [0] + [1] * 8)
    assert all(each.intake.connected for each in everybody)
    (spare,) = (each for each in everybody if not each.intake.assigned)
    leaving = next(each for each in others if each is not spare)
    await leaving.intake.stop()
    await spare.until(lambda: len(spare.intake.assigned) == 1)
    for other in others:
        if other is not leaving:
            await other.intake.stop()
