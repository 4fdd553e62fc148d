"""Reads partitions of a topic from given offsets to their present ends, with the worker's client, confluent-kafka.

`kefu.tools.topic_reader` is its counterpart for the tools, with the client kafka-python (see ops/decisions/0012). This
module reads several partitions at once. It never repeats a request, because its caller does. Every method blocks, and
raises QueueUnavailable if Kafka refuses or doesn't answer.
"""

from typing import Any, Callable, Dict, Iterator, Sequence, Tuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kefu.errors import QueueUnavailable
from kefu.kafka import damped_errors
from kefu.settings import KafkaSettings

REQUEST_S = 10.0  # limits the wait for the answer to a request; beyond it QueueUnavailable is raised
SILENCE_S = 30.0  # limits the wait for the next record; beyond it QueueUnavailable is raised
BATCH = 500  # limits how many records are taken from the client at a time
BUFFER_KBYTES = 16 * 1024  # limits the records that the client fetches ahead; beyond it the client stops fetching


class TopicReader:
    """Reads partitions of topics. Never commits an offset."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._admin = AdminClient({**kafka.client_config(), **damped_errors()})
        self._consumer = Consumer(
            {
                **kafka.client_config(),
                "group.id": kafka.group,  # the client requires a group, but nothing is committed
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "queued.max.messages.kbytes": BUFFER_KBYTES,
                **damped_errors(),
            }
        )

    def close(self) -> None:
        """Close the connections to Kafka."""
        self._consumer.close()

    def partitions(self, name: str) -> int:
        """Return how many partitions a topic has."""
        return len(_asked(self._consumer.list_topics, name, REQUEST_S).topics[name].partitions)

    def bounds(self, name: str, numbers: Sequence[int]) -> Dict[int, Tuple[int, int]]:
        """Return each partition's first offset, and the offset after its last. Empty partitions are left out."""
        ends = self._listed(name, numbers, OffsetSpec.latest())
        lows = self._listed(name, numbers, OffsetSpec.earliest())
        return {n: (lows[n].offset, ends[n].offset) for n in numbers if lows[n].offset < ends[n].offset}

    def newest_ms(self, name: str, numbers: Sequence[int]) -> Dict[int, int]:
        """Return the time of each partition's latest record, in ms since the epoch. Empty partitions are left out."""
        offsets = self._listed(name, numbers, OffsetSpec.max_timestamp())
        return {number: newest.timestamp for number, newest in offsets.items() if newest.offset >= 0}

    def offsets_at(self, name: str, times: Dict[int, int]) -> Dict[int, int]:
        """Return, by partition, the offset of the first record at or after a time; -1 if there is none.

        Args:
            name: of the topic.
            times: by partition, in ms since the epoch.
        """
        places = [TopicPartition(name, number, since_ms) for number, since_ms in times.items()]
        offsets = _asked(self._consumer.offsets_for_times, places, REQUEST_S) if places else []
        return {place.partition: max(-1, place.offset) for place in offsets}

    def records(self, name: str, starts: Dict[int, int], ends: Dict[int, int]) -> Iterator[Message]:
        """Yield the records of the partitions of `starts`, each from its start up to, but not including, its end."""
        left = {number: ends[number] for number in starts}
        if not left:
            return
        self._consumer.assign([TopicPartition(name, number, start) for number, start in starts.items()])
        while left:
            first = self._consumer.poll(SILENCE_S)
            if first is None:
                raise QueueUnavailable(f"{name}: no answer within {SILENCE_S:.0f} s")
            # `consume` alone would wait until it has BATCH records, so `poll` waits for the first one.
            for message in (first, *self._consumer.consume(BATCH, 0)):
                if message.error() is None and _within(message, left):
                    yield message
                _pass(message, left)

    def _listed(self, name: str, numbers: Sequence[int], what: OffsetSpec) -> Dict[int, Any]:
        if not numbers:
            return {}  # librdkafka refuses an empty request
        wanted = {TopicPartition(name, number): what for number in numbers}
        futures = self._admin.list_offsets(wanted, request_timeout=REQUEST_S)
        return {place.partition: _asked(future.result) for place, future in futures.items()}


def _asked(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a call of the Kafka client. Raises QueueUnavailable for the client's errors."""
    try:
        return call(*arguments)
    except KafkaException as error:
        raise QueueUnavailable(f"what was published can't be read: {error.args[0].name()}") from error


def _place(message: Message) -> Tuple[int, int]:
    """Return the partition and the offset of a record, or of a message that says that the partition has ended."""
    number, offset = message.partition(), message.offset()
    assert number is not None and offset is not None  # only a message about a broker's error lacks them
    return number, offset


def _within(message: Message, left: Dict[int, int]) -> bool:
    """Return whether a record comes before the end up to which its partition is read."""
    number, offset = _place(message)
    return offset < left.get(number, 0)


def _pass(message: Message, left: Dict[int, int]) -> None:
    """Remove from `left` the partition of `message`, if it has been read to its end."""
    error = message.error()
    if error is None:
        number, offset = _place(message)
        if offset >= left.get(number, 0) - 1:
            left.pop(number, None)
    elif error.code() == KafkaError._PARTITION_EOF:
        left.pop(_place(message)[0], None)
    elif not error.retriable() and error.code() != KafkaError._TRANSPORT:
        raise QueueUnavailable(f"what was published can't be read: {error.name()}")
