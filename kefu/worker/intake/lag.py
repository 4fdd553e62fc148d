"""Counts the messages that wait in Kafka, in the partitions of this worker. Belongs to the thread that polls.

In: the consumer, its partitions, and which of them are paused. Out: the number of messages. The end of a partition is
known from the last fetch. A paused partition is not fetched, so Kafka is asked for its end: in one request for all
paused partitions, with a short time-out.
"""

from typing import Dict, Iterable, List, Set

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

ASKED_S = 0.2  # longest wait for Kafka's answer; after it the ends of the last fetch are used


def waiting(consumer: Consumer, topic: str, numbers: Iterable[int], paused: Set[int]) -> int:
    """Return how many messages of these partitions have not been polled. Asks Kafka only if a partition is paused."""
    places = [TopicPartition(topic, number) for number in numbers]
    ends = _ends(consumer, [place for place in places if place.partition in paused])
    count = 0
    for place in _positions(consumer, places, bool(ends)):
        _, high = consumer.get_watermark_offsets(place, cached=True)
        if place.offset >= 0:  # a negative offset means that nothing was read from the partition yet
            count += max(0, ends.get(place.partition, high) - place.offset)
    return count


def _ends(consumer: Consumer, places: List[TopicPartition]) -> Dict[int, int]:
    """Return the end offsets of these partitions, without those for which Kafka does not answer in time."""
    if not places:
        return {}
    wanted = [TopicPartition(place.topic, place.partition, OFFSET_END) for place in places]
    try:
        offsets = consumer.offsets_for_times(wanted, ASKED_S)
    except KafkaException:  # the ends of the last fetch are used
        return {}
    return {each.partition: each.offset for each in offsets if each.error is None and each.offset >= 0}


def _positions(consumer: Consumer, places: List[TopicPartition], ask: bool) -> List[TopicPartition]:
    """Return the positions of the partitions; with `ask`, those not read yet get their committed offset from Kafka."""
    positions = consumer.position(places)
    unread = [TopicPartition(place.topic, place.partition) for place in positions if place.offset < 0]
    if not ask or not unread:
        return positions
    try:
        committed = consumer.committed(unread, ASKED_S)
    except KafkaException:
        return positions
    # A partition without a commit is read from its beginning, which is 0 until Kafka deletes its first segment.
    begun = {each.partition: max(0, each.offset) for each in committed if each.error is None}
    return [TopicPartition(p.topic, p.partition, begun.get(p.partition, p.offset)) for p in positions]
