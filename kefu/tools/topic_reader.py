"""Reads a topic's partitions from an offset to their present end, for operators' tools and checkers. Every call blocks.

Every method raises QueueUnavailable when Kafka refuses, or doesn't answer in time.
"""

import time
from functools import partial
from typing import Iterator, Optional, Tuple

from kafka import TopicPartition
from kafka.admin import OffsetSpec
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import for_code

from kefu.errors import QueueUnavailable
from kefu.settings import KafkaSettings
from kefu.tools.clients import CONNECT_S, TIMEOUT_S, admin, asked, consumer

NEW_S = 3.0  # a missing topic is waited for this long: not all brokers know a topic that was just created
BATCH = 500  # limits the records of one poll
POLL_MS = 1000  # longest wait of one poll for records


class TopicReader:
    """Reads records without a consumer group: it commits nothing, and needs no right on a group.

    It has one connection for metadata and offsets, and one for records.

    Args:
        kafka: the connection's settings.
        silence_s: how long Kafka may be silent before a read fails.
        connect_s: how long each connection may take.
    """

    def __init__(self, kafka: KafkaSettings, silence_s: float = TIMEOUT_S, connect_s: float = CONNECT_S) -> None:
        self._silence_s = silence_s
        self.admin = admin(kafka, connect_s)
        self._consumer = consumer(kafka, connect_s)

    def close(self) -> None:
        """Close the connections to Kafka."""
        self._consumer.close()
        self.admin.close()

    def partitions(self, name: str) -> int:
        """Return how many partitions a topic has; raises QueueUnavailable if it is missing or refused."""

        def count() -> int:
            (topic,) = self.admin.describe_topics([name])
            if topic["error_code"]:
                raise for_code(topic["error_code"])(name)
            return len(topic["partitions"])

        return asked(count, name, NEW_S)

    def bounds(self, name: str, number: int) -> Tuple[int, int]:
        """Return the first offset that a partition still has, and the offset after its last record."""
        return self._offset(name, number, OffsetSpec.EARLIEST), self._offset(name, number, OffsetSpec.LATEST)

    def offset_at(self, name: str, number: int, since_ms: int) -> int:
        """Return the first offset at or after a time (ms since the epoch); the partition's end if there is none."""
        offset = self._offset(name, number, since_ms)
        return offset if offset >= 0 else self._offset(name, number, OffsetSpec.LATEST)

    def records(self, name: str, number: int, start: int = 0, end: Optional[int] = None) -> Iterator[ConsumerRecord]:
        """Yield a partition's records from `start`, or its first offset, to before `end`, or its present end."""
        low, high = self.bounds(name, number)
        low, high = max(low, start), high if end is None else min(end, high)
        if low >= high:
            return
        place = TopicPartition(name, number)
        self._consumer.assign([place])
        self._consumer.seek(place, low)
        deadline = time.monotonic() + self._silence_s
        while low < high:
            batch = asked(partial(self._consumer.poll, POLL_MS, BATCH), name, self._silence_s)
            for record in batch.get(place, ()):
                if record.offset < high:
                    yield record
            before, low = low, asked(partial(self._consumer.position, place), name)
            if low > before:
                deadline = time.monotonic() + self._silence_s
            elif time.monotonic() > deadline:
                raise QueueUnavailable(f"{name}: no answer within {self._silence_s:.0f} s")

    def _offset(self, name: str, number: int, spec: "OffsetSpec | int") -> int:
        place = TopicPartition(name, number)
        return asked(lambda: self.admin.list_partition_offsets({place: spec})[place].offset, name)
