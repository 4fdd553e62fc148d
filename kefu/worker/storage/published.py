"""Reads back what was published last, to mend a Redis that lost it.

In: partitions of the inbox. Out: the turns at the end of `answer.generated` and `dialogue.events`
as the writes that stored them. Blocks: call it in a thread.
"""

from contextlib import closing
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from kefu.codec import decode
from kefu.errors import PoisonMessage, QueueUnavailable
from kefu.events import ANSWERS, DIALOGUE_EVENTS, USER_QUERY, AnswerGenerated, TurnEvents, conversation_key, now_ms
from kefu.kafka import damped_errors
from kefu.settings import CONVERSATION_LIFETIME_S, KafkaSettings
from kefu.worker.conversation.stored import TurnWrite

REQUEST_S = 10.0
SILENCE_S = 30.0
# At least so many records a partition, also from before the window: a worker's clock may have been wrong.
MIN_RECORDS = 500
MAX_RECORDS = 100_000
BUFFER_KBYTES = 16 * 1024


Place = Tuple[str, int]  # conversation and version
Events = List[Dict[str, Any]]


class Newest(NamedTuple):
    """The last version of a conversation that was published, and the partition that it lies in."""

    version: int
    partition: int


class PublishedTail:
    """The ends of the two topics. Every method raises QueueUnavailable when Kafka doesn't answer."""

    def __init__(self, settings: KafkaSettings, window_s: float) -> None:
        """Prepare; connects when asked.

        Args:
            settings: where Kafka is.
            window_s: how far before the last record of a partition to read.
        """
        self._settings = settings
        self._window_ms = round(window_s * 1000)

    def newest(self, partitions: Sequence[int]) -> Dict[str, Newest]:
        """Return the last published version of each conversation that has one in the window."""
        found: Dict[str, Newest] = {}
        for message in self._tail(ANSWERS, partitions):
            answer = _decoded(message, AnswerGenerated)
            if answer is None:
                continue
            conversation = conversation_key(answer.tenant, answer.user)
            before = found.get(conversation)
            if before is None or before.version < answer.tracker_version:
                found[conversation] = Newest(answer.tracker_version, message.partition())
        return found

    def turns(self, partitions: Sequence[int], after: Dict[str, int]) -> Dict[str, List[TurnWrite]]:
        """Return the turns of these conversations that are above a version, oldest first.

        A turn whose events are not there is left out: whoever published it died in between, so that
        its message comes again.
        """
        answers: Dict[Place, List[bytes]] = {}
        for message, conversation in self._of(ANSWERS, partitions, after):
            answer = _decoded(message, AnswerGenerated)
            if answer is not None and answer.tracker_version > after[conversation]:
                answers.setdefault((conversation, answer.tracker_version), []).append(message.value())
        events: Dict[Place, List[Events]] = {}
        for message, conversation in self._of(DIALOGUE_EVENTS, partitions, after):
            turn = _decoded(message, TurnEvents)
            if turn is not None and (conversation, turn.tracker_version) in answers:
                events.setdefault((conversation, turn.tracker_version), []).append(turn.events)
        found: Dict[str, List[TurnWrite]] = {}
        for place in sorted(answers):
            write = _write(answers[place], events.get(place, []))
            if write is not None:
                found.setdefault(place[0], []).append(write)
        return found

    def _of(self, topic: str, partitions: Sequence[int], wanted: Iterable[str]) -> Iterator[Tuple[Message, str]]:
        names = {conversation.encode(): conversation for conversation in wanted}
        for message in self._tail(topic, partitions):
            conversation = names.get(message.key())
            if conversation is not None:
                yield message, conversation

    def _tail(self, topic: str, partitions: Sequence[int]) -> Iterator[Message]:
        """Yield the last records of these partitions of the inbox in another topic."""
        name = self._settings.topic_prefix + topic
        with closing(self._consumer()) as consumer:
            starts, ends = self._ends(consumer, name, self._same(consumer, name, partitions))
            if not ends:
                return
            consumer.assign([TopicPartition(name, partition, start) for partition, start in starts.items()])
            while ends:
                first = consumer.poll(SILENCE_S)
                if first is None:
                    raise QueueUnavailable(f"{topic}: no answer within {SILENCE_S:.0f} s")
                for message in (first, *consumer.consume(500, 0)):
                    if message.error() is None and message.offset() < ends.get(message.partition(), 0):
                        yield message
                    _pass(message, ends)

    def _same(self, consumer: Consumer, name: str, partitions: Sequence[int]) -> List[int]:
        """Return the partitions that hold the same keys, or all where the topics' numbers differ."""
        inbox = self._settings.topic_prefix + USER_QUERY
        counts = [
            len(_asked(consumer.list_topics, topic, REQUEST_S).topics[topic].partitions) for topic in (inbox, name)
        ]
        return list(partitions) if counts[0] == counts[1] else list(range(counts[1]))

    def _ends(self, consumer: Consumer, name: str, partitions: Sequence[int]) -> Tuple[Dict[int, int], Dict[int, int]]:
        """Return where to begin and where to end in each partition that holds anything."""
        admin = AdminClient({**self._settings.client_config(), **damped_errors()})
        places = [TopicPartition(name, partition) for partition in partitions]
        ends = {place.partition: found.offset for place, found in _listed(admin, places, OffsetSpec.latest())}
        newest = {place.partition: found for place, found in _listed(admin, places, OffsetSpec.max_timestamp())}
        lows = {place.partition: found.offset for place, found in _listed(admin, places, OffsetSpec.earliest())}
        held = [number for number in partitions if newest[number].offset >= 0 and lows[number] < ends[number]]
        if not held:
            return {}, {}
        times = [TopicPartition(name, number, max(0, newest[number].timestamp - self._window_ms)) for number in held]
        starts = {}
        for place in _asked(consumer.offsets_for_times, times, REQUEST_S):
            end = ends[place.partition]
            start = min(place.offset if place.offset >= 0 else end, end - MIN_RECORDS)
            starts[place.partition] = max(start, end - MAX_RECORDS, lows[place.partition])
        return starts, {number: ends[number] for number in held}

    def _consumer(self) -> Consumer:
        return Consumer(
            {
                **self._settings.client_config(),
                "group.id": self._settings.group,  # nothing is committed under it
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "queued.max.messages.kbytes": BUFFER_KBYTES,
                **damped_errors(),
            }
        )


def _listed(admin: AdminClient, places: List[TopicPartition], what: OffsetSpec) -> List[Tuple[TopicPartition, Any]]:
    futures = admin.list_offsets(dict.fromkeys(places, what), request_timeout=REQUEST_S)
    return [(place, _asked(future.result)) for place, future in futures.items()]


def _asked(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except KafkaException as error:
        raise QueueUnavailable(f"what was published can't be read: {error.args[0].name()}") from error


def _pass(message: Message, ends: Dict[int, int]) -> None:
    """Take out of `ends` a partition that has been read to its end."""
    error = message.error()
    if error is None:
        if message.offset() >= ends.get(message.partition(), 0) - 1:
            ends.pop(message.partition(), None)
    elif error.code() == KafkaError._PARTITION_EOF:
        ends.pop(message.partition(), None)
    elif not error.retriable() and error.code() != KafkaError._TRANSPORT:
        raise QueueUnavailable(f"what was published can't be read: {error.name()}")


def _decoded(message: Message, kind: Any) -> Any:
    try:
        found = decode(message.value() or b"", kind)
    except PoisonMessage:
        return None  # not of this version, or not ours: nothing to mend by
    # Redis has forgotten a conversation of that time on purpose; Kafka, which deletes by segments, may still have it.
    return found if found.ts > now_ms() - CONVERSATION_LIFETIME_S * 1000 else None


def _write(markers: List[bytes], told: List[Events]) -> Optional[TurnWrite]:
    """Return the last answer that has its events; two owners may both have published a turn."""
    for marker in reversed(markers):
        answer = decode(marker, AnswerGenerated)
        for events in reversed([*told, []]):
            if len(events) == answer.events:
                version = answer.tracker_version - 1
                return TurnWrite(answer.message_id, version, answer.seq, events, marker, answer.replies)
    return None
