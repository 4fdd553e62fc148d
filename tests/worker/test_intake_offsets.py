"""Offsets are committed up to the lowest unfinished message, in whatever order messages finish."""

import itertools
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, TopicPartition

from kefu.settings import KafkaSettings, WorkerSettings
from kefu.worker.intake.consumer import Intake
from kefu.worker.intake.partitions import Partition


def test_committed_offset_never_passes_an_unfinished_message():
    for order in itertools.permutations([5, 6, 8, 9]):  # 7 is missing: compaction and transactions leave gaps
        partition = Partition(0)
        for offset in (5, 6, 8, 9):
            partition.take(offset)
        finished = set()
        for offset in order:
            partition.done(offset)
            finished.add(offset)
            unfinished = {5, 6, 8, 9} - finished
            limit = min(unfinished, default=10)
            assert (partition.committable or 0) <= limit
        assert partition.committable == 10


def test_unfinished_first_message_prevents_a_commit():
    partition = Partition(0)
    partition.take(1)
    partition.take(2)
    partition.done(2)
    assert partition.committable is None


class Kafka:
    """Stand-in for the consumer: keeps the commits. tests/chaos and tests/e2e use a real one."""

    def __init__(self):
        self.asked = []

    def commit(self, offsets, asynchronous):
        self.asked.append({offset.partition: offset.offset for offset in offsets})


@pytest.fixture
def intake():
    settings = WorkerSettings(action_url="http://127.0.0.1:9/")
    made = Intake(KafkaSettings("127.0.0.1:9"), settings, print, lambda: False, print)
    made._consumer.close()
    made._consumer = Kafka()
    made._partitions.add((0, 1))
    for number in (0, 1):
        partition = made._partitions.get(number)
        partition.take(4)
        partition.done(4)
    return made


def failure(offset):
    """Return the offsets and the error of a commit that Kafka refused during a rebalance."""
    offsets = [TopicPartition("user.query", number, offset) for number in (0, 1)]
    return offsets, KafkaError(KafkaError.ILLEGAL_GENERATION)


def test_failed_commit_is_repeated_without_a_new_message(intake):
    intake._commit()
    intake._commit()
    assert intake._consumer.asked == [{0: 5, 1: 5}]
    offsets, error = failure(5)
    intake._on_commit(error, offsets)
    intake._commit()
    assert intake._consumer.asked == [{0: 5, 1: 5}] * 2
    intake._on_commit(None, offsets)
    intake._commit()
    assert intake._consumer.asked == [{0: 5, 1: 5}] * 2


def test_late_commit_failure_of_a_lost_partition_is_ignored(intake):
    intake._commit()
    intake._partitions.remove([0])
    offsets, error = failure(5)
    intake._on_commit(error, offsets)
    intake._commit()
    assert intake._consumer.asked == [{0: 5, 1: 5}, {1: 5}]


def test_worker_whose_session_expired_is_not_ready(intake):
    """No broker answered it for the session timeout."""
    intake._loop, intake.connected = SimpleNamespace(call_soon_threadsafe=lambda *_: None), True
    consumer = SimpleNamespace(incremental_assign=print, incremental_unassign=print, resume=print)
    intake._on_lost(consumer, [TopicPartition("user.query", 0)])
    assert not intake.connected
    intake._on_assign(consumer, [TopicPartition("user.query", 0)])
    assert intake.connected
