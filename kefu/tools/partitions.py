"""`python -m kefu partitions COUNT`: adds partitions to the topics while everything runs.

A conversation may then fall on another partition, so on another worker: what guards it is the tracker's version
(record 3). Its order is kept if nothing of it waits in the old partition, so a lag stops the command.
"""

import argparse
import sys
import time
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import closing
from typing import Dict, List

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from kefu.errors import QueueUnavailable
from kefu.events import ANSWERS, CANDIDATE_QUERY, DEAD_LETTERS, DIALOGUE_EVENTS, LOOKUPS, USER_QUERY
from kefu.kafka import METADATA_REFRESH_MS, damped_errors
from kefu.settings import KafkaSettings

TIMEOUT_S = 30.0
MOST_PARTITIONS = 4096
MOST_LAG = 1000  # what some workers have under way; more is a backlog
# The inbox last: while the numbers differ, a worker that mends looks through all partitions of the others.
ORDER = (ANSWERS, DIALOGUE_EVENTS, DEAD_LETTERS, LOOKUPS, CANDIDATE_QUERY, USER_QUERY)
PAUSE_S = 0.2
_PASSING = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
)
DONE, REFUSED = 0, 1


def main(arguments: List[str]) -> int:
    """Add partitions; returns 0, or 1 when it was refused or Kafka didn't answer."""
    options = _parser().parse_args(arguments)
    kafka = KafkaSettings.from_env()
    try:
        counts = counted(kafka)
        problem = refusal(counts, options.count, 0 if options.despite_lag else lag(kafka))
        if problem:
            print(f"kefu partitions: {problem}", file=sys.stderr)
            return REFUSED
        for topic in ORDER:
            if options.dry_run or counts[topic] == options.count:
                print(f"{topic}: {counts[topic]} of {options.count}")
            else:
                add(kafka, topic, options.count)
                print(f"{topic}: {counts[topic]} -> {options.count}")
    except QueueUnavailable as error:
        print(f"kefu partitions: {error}. Run the same command again: it goes on where it stopped.", file=sys.stderr)
        return REFUSED
    print(f"gateways and workers know of it within {METADATA_REFRESH_MS / 1000:.0f} s")
    return DONE


def refusal(counts: Dict[str, int], count: int, waiting: int) -> str:
    """Return why partitions may not be added now; empty when they may."""
    missing = sorted(topic for topic in ORDER if not counts.get(topic))
    if missing:
        return f"missing topics: {', '.join(missing)}; `python -m kefu topics` makes them"
    if not 1 <= count <= MOST_PARTITIONS:
        return f"the number must be from 1 to {MOST_PARTITIONS}"
    if any(counts[topic] > count for topic in ORDER):
        return "Kafka can't take partitions away"
    if waiting > MOST_LAG:
        return f"{waiting} messages wait; a conversation's later ones could overtake them. --despite-lag adds anyway"
    return ""


def counted(kafka: KafkaSettings) -> Dict[str, int]:
    """Return how many partitions each topic has, 0 for one that isn't there. Blocks; raises QueueUnavailable."""
    try:
        topics = _admin(kafka).list_topics(timeout=TIMEOUT_S).topics
    except KafkaException as error:
        raise QueueUnavailable(error.args[0].name()) from error
    found = {topic: topics.get(kafka.topic_prefix + topic) for topic in ORDER}
    return {topic: len(metadata.partitions) if metadata else 0 for topic, metadata in found.items()}


def lag(kafka: KafkaSettings, inbox: str = USER_QUERY, group: str = "") -> int:
    """Return how many messages of an inbox wait or are under way. Blocks; raises QueueUnavailable.

    Args:
        kafka: where it is.
        inbox: the topic, without the prefix.
        group: who reads it; empty for the workers' group.
    """
    topic, count = kafka.topic_prefix + inbox, counted(kafka)[inbox]
    places = [TopicPartition(topic, number) for number in range(count)]
    if not places:
        return 0
    until = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return _waiting(kafka, places, group or kafka.group)
        except KafkaException as error:
            # A broker that has just started, or made its first topics, doesn't know yet who keeps the group; a topic
            # that was just made has no leader for a moment.
            if error.args[0].code() not in _PASSING or time.monotonic() > until:
                raise QueueUnavailable(error.args[0].name()) from error
            time.sleep(PAUSE_S)


def _waiting(kafka: KafkaSettings, places: List[TopicPartition], group: str) -> int:
    config = {**kafka.client_config(), "group.id": group, "enable.auto.commit": False, **damped_errors()}
    waiting = 0
    with closing(Consumer(config)) as consumer:
        for place in consumer.committed(places, TIMEOUT_S):
            low, high = consumer.get_watermark_offsets(place, TIMEOUT_S)
            waiting += high - max(low, place.offset)
    return waiting


def add(kafka: KafkaSettings, topic: str, count: int) -> None:
    """Give a topic this many partitions. Blocks; raises QueueUnavailable when a broker refused or didn't answer."""
    admin = _admin(kafka)  # kept: the answer ends with it
    asked = admin.create_partitions([NewPartitions(kafka.topic_prefix + topic, count)])
    try:
        asked[kafka.topic_prefix + topic].result(TIMEOUT_S)
    except (KafkaException, FutureTimeout) as error:
        reason = error.args[0].name() if isinstance(error, KafkaException) else "no answer"
        raise QueueUnavailable(f"{topic}: {reason}") from error


def _admin(kafka: KafkaSettings) -> AdminClient:
    return AdminClient({**kafka.client_config(), **damped_errors()})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kefu partitions", description=__doc__)
    parser.add_argument("count", type=int, help="how many each topic shall have")
    parser.add_argument("--dry-run", action="store_true", help="say what there is, change nothing")
    parser.add_argument("--despite-lag", action="store_true", help="though messages wait in the old partitions")
    return parser
