"""Reads partitions of a topic from somewhere to where they end now, for operators' tools. Every call blocks."""

import time
from typing import Any, Callable, Iterator, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kefu.errors import QueueUnavailable
from kefu.kafka import damped_errors
from kefu.settings import KafkaSettings

TIMEOUT_S = 30.0
NEW_S = 3.0  # a topic that was just made is not known to all brokers
BATCH = 500
PAUSE_S = 0.2
_PASSING = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_COORDINATOR,
)
T = TypeVar("T")


def reader(kafka: KafkaSettings, group: str) -> Consumer:
    """Return a consumer that commits nothing by itself. `group` is one that its user may READ."""
    config = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "error"}
    return Consumer({**kafka.client_config(), **config, **damped_errors()})


def partitions(consumer: Consumer, name: str) -> int:
    """Return how many partitions a topic has; raises QueueUnavailable for one that isn't there, or refused."""
    deadline = time.monotonic() + NEW_S
    while True:
        found = asked(consumer.list_topics, name, TIMEOUT_S).topics[name]
        if found.error is None:
            return len(found.partitions)
        if found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
            raise QueueUnavailable(f"{name}: {found.error.name()}")
        time.sleep(PAUSE_S)


def messages(consumer: Consumer, name: str, number: int, start: int = 0) -> Iterator[Message]:
    """Yield what a partition holds now, from `start` or where it begins; raises QueueUnavailable after TIMEOUT_S."""
    place = TopicPartition(name, number)
    low, high = asked(consumer.get_watermark_offsets, place, TIMEOUT_S)
    place.offset = low = max(low, start)
    consumer.assign([place])
    while low < high:
        first = consumer.poll(TIMEOUT_S)
        if first is None:
            raise QueueUnavailable(f"{name}: no answer within {TIMEOUT_S:.0f} s")
        for record in (first, *consumer.consume(BATCH, 0)):  # which alone would wait to fill its number
            if record.error() is not None:
                raise QueueUnavailable(f"{name}: {record.error().name()}")
            low = record.offset() + 1
            if record.offset() < high:
                yield record


def asked(ask: Callable[..., T], *arguments: Any) -> T:
    """Return the answer; topics that were just made have no leader for a moment."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return ask(*arguments)
        except KafkaException as error:
            if error.args[0].code() not in _PASSING or time.monotonic() > deadline:
                raise QueueUnavailable(error.args[0].name()) from error
        time.sleep(PAUSE_S)
