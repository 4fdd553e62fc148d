"""Offsets are committed up to the lowest unfinished message, whatever order messages finish in."""

import itertools
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, TopicPartition

from kefu.settings import KafkaSettings, WorkerSettings
from kefu.worker.intake.consumer import Intake
from kefu.worker.intake.partitions import Partition


def test_the_offset_to_commit_never_passes_an_unfinished_message():
    for order in itertools.permutations([5, 6, 8, 9]):  # 7 is missing: compaction and transactions leave holes
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


def test_nothing_is_committed_while_the_first_message_is_unfinished():
    partition = Partition(0)
    partition.take(1)
    partition.take(2)
    partition.done(2)
    assert partition.committable is None


class Kafka:
    """The seam to the consumer: takes what is committed. Its real side is tests/chaos and tests/e2e."""

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
    """Return what Kafka answers during a rebalance."""
    offsets = [TopicPartition("user.query", number, offset) for number in (0, 1)]
    return offsets, KafkaError(KafkaError.ILLEGAL_GENERATION)


def test_what_kafka_did_not_take_is_committed_again_though_nothing_new_comes(intake):
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


def test_a_late_failure_of_a_partition_that_has_gone_changes_nothing(intake):
    intake._commit()
    intake._partitions.remove([0])
    offsets, error = failure(5)
    intake._on_commit(error, offsets)
    intake._commit()
    assert intake._consumer.asked == [{0: 5, 1: 5}, {1: 5}]


def test_a_worker_that_no_broker_answers_for_a_sessions_time_is_not_ready(intake):
    intake._loop, intake.connected = SimpleNamespace(call_soon_threadsafe=lambda *_: None), True
    consumer = SimpleNamespace(incremental_assign=print, incremental_unassign=print, resume=print)
    intake._on_lost(consumer, [TopicPartition("user.query", 0)])
    assert not intake.connected
    intake._on_assign(consumer, [TopicPartition("user.query", 0)])
    assert intake.connected
