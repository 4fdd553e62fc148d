"""How many messages wait in a consumer's partitions. Belongs to the thread that polls.

In: the consumer, its partitions and those that are paused. Out: what Kafka had at the last fetch; of paused partitions
nothing is fetched, so for them Kafka is asked: of all at once, and not waited for long.
"""

from typing import Dict, Iterable, List, Set

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

ASKED_S = 0.2


def waiting(consumer: Consumer, topic: str, numbers: Iterable[int], paused: Set[int]) -> int:
    """Return how many messages have not been taken. Asks nobody while nothing is paused."""
    places = [TopicPartition(topic, number) for number in numbers]
    ends = _ends(consumer, [place for place in places if place.partition in paused])
    found = 0
    for place in _positions(consumer, places, bool(ends)):
        _, high = consumer.get_watermark_offsets(place, cached=True)
        if place.offset >= 0:  # else nothing has come from it yet
            found += max(0, ends.get(place.partition, high) - place.offset)
    return found


def _ends(consumer: Consumer, places: List[TopicPartition]) -> Dict[int, int]:
    """Return the offsets at which these partitions end; of those that Kafka doesn't tell of in time, none."""
    if not places:
        return {}
    wanted = [TopicPartition(place.topic, place.partition, OFFSET_END) for place in places]
    try:
        found = consumer.offsets_for_times(wanted, ASKED_S)
    except KafkaException:  # what was known stays
        return {}
    return {each.partition: each.offset for each in found if each.error is None and each.offset >= 0}


def _positions(consumer: Consumer, places: List[TopicPartition], ask: bool) -> List[TopicPartition]:
    """Return where the partitions are read; `ask` Kafka for what was committed of those not yet read from."""
    found = consumer.position(places)
    unread = [TopicPartition(place.topic, place.partition) for place in found if place.offset < 0]
    if not ask or not unread:
        return found
    try:
        committed = consumer.committed(unread, ASKED_S)
    except KafkaException:
        return found
    # Without a commit it is read from its beginning, which is 0 until the first day's segments are deleted.
    begun = {each.partition: max(0, each.offset) for each in committed if each.error is None}
    return [TopicPartition(p.topic, p.partition, begun.get(p.partition, p.offset)) for p in found]
