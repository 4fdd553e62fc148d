"""The committed offsets, the members and the lag of a consumer group. Every call blocks.

Every function raises QueueUnavailable when Kafka refuses, or doesn't answer in time.
"""

from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from typing import Dict

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import NoError, for_code

from kefu.errors import QueueUnavailable
from kefu.events import USER_QUERY
from kefu.kafka import damped_errors
from kefu.settings import KafkaSettings
from kefu.tools.clients import TIMEOUT_S, admin, asked
from kefu.tools.topic_reader import TopicReader


def committed(kafka: KafkaSettings, group: str, topic: str) -> Dict[int, int]:
    """Return a group's committed offsets, by partition of a topic; partitions without an offset are left out."""

    def ask() -> Dict[int, int]:
        with closing(admin(kafka)) as client:  # a new client each time, because a client caches the group's coordinator
            offsets = client.list_group_offsets({group: None})[group]
        return {place.partition: kept.offset for place, kept in offsets.items() if place.topic == topic}

    return asked(ask, group)


def commit(kafka: KafkaSettings, group: str, topic: str, offsets: Dict[int, int]) -> None:
    """Commit offsets, by partition of a topic, for a group without members."""
    places = {TopicPartition(topic, n): OffsetAndMetadata(offset, "", None) for n, offset in offsets.items()}

    def ask() -> None:
        with closing(admin(kafka)) as client:
            for error in client.alter_group_offsets(group, places).values():
                if error is not NoError:
                    raise error(group)

    asked(ask, group)


def lag(kafka: KafkaSettings, inbox: str = USER_QUERY, group: str = "") -> int:
    """Return how many messages of an inbox wait or are under way.

    Args:
        kafka: the connection, and the default group.
        inbox: the topic, without the prefix.
        group: the consumer group of the inbox; empty for the workers' group.
    """
    name = kafka.topic_prefix + inbox
    offsets = committed(kafka, group or kafka.group, name)
    with closing(TopicReader(kafka)) as reader:
        bounds = [reader.bounds(name, number) for number in range(reader.partitions(name))]
    return sum(high - max(low, offsets.get(number, 0)) for number, (low, high) in enumerate(bounds))


def members(kafka: KafkaSettings, group: str) -> int:
    """Return how many consumers are in a group.

    Uses confluent-kafka's `describe_consumer_groups`: kafka-python's `describe_groups` reports a living group of the
    new protocol as dead.
    """
    client = AdminClient({**kafka.client_config(), **damped_errors()})

    def ask() -> int:
        try:
            return len(client.describe_consumer_groups([group])[group].result(TIMEOUT_S).members)
        except FutureTimeout as error:
            raise QueueUnavailable(f"{group}: no answer within {TIMEOUT_S:.0f} s") from error
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            if code < 0:  # an error of librdkafka itself; kafka-python has no class for it
                raise QueueUnavailable(f"{group}: {error.args[0].name()}") from error
            raise for_code(code)(group) from error

    return asked(ask, group)
