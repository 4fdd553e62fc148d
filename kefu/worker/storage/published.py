"""Reads from Kafka the turns that were published last, so that a Redis that lost them can be mended.

In: partitions of the inbox. Out: the turns at the end of `answer.generated` and `dialogue.events`, as the writes that
stored them. Blocks: call it in a thread.
"""

from contextlib import closing
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from confluent_kafka import Message

from kefu.codec import decode
from kefu.errors import PoisonMessage
from kefu.events import ANSWERS, DIALOGUE_EVENTS, USER_QUERY, AnswerGenerated, TurnEvents, conversation_key, now_ms
from kefu.settings import CONVERSATION_LIFETIME_S, KafkaSettings
from kefu.worker.conversation.stored import TurnWrite
from kefu.worker.storage.topic_reader import TopicReader

# At least this many records are read per partition, even from before the window, since a worker's clock may be wrong.
MIN_RECORDS = 500
MAX_RECORDS = 100_000  # at most this many records are read per partition; earlier ones are not mended


Place = Tuple[str, int]  # conversation and version
Events = List[Dict[str, Any]]


class Newest(NamedTuple):
    """The last published version of a conversation, and its partition."""

    version: int
    partition: int


class PublishedTail:
    """The ends of the two topics. Every method raises QueueUnavailable if Kafka doesn't answer."""

    def __init__(self, settings: KafkaSettings, window_s: float) -> None:
        """Create the reader. Each call opens connections of its own.

        Args:
            settings: where Kafka is.
            window_s: how far before the last record of a partition to read.
        """
        self._settings = settings
        self._window_ms = round(window_s * 1000)

    def newest(self, partitions: Sequence[int]) -> Dict[str, Newest]:
        """Return the last published version of each conversation that has one in the window."""
        latest: Dict[str, Newest] = {}
        for message in self._tail(ANSWERS, partitions):
            answer = _decoded(message, AnswerGenerated)
            if answer is None:
                continue
            conversation = conversation_key(answer.tenant, answer.user)
            before = latest.get(conversation)
            partition = message.partition()
            assert partition is not None  # a delivered message always has one
            if before is None or before.version < answer.tracker_version:
                latest[conversation] = Newest(answer.tracker_version, partition)
        return latest

    def turns(self, partitions: Sequence[int], after: Dict[str, int]) -> Dict[str, List[TurnWrite]]:
        """Return the published turns of these conversations, oldest first.

        A turn whose events were not published is left out. Its worker died before it published them, so the message was
        not committed and is delivered again.

        Args:
            partitions: of the inbox.
            after: by conversation, the version above which turns are returned.
        """
        answers: Dict[Place, List[bytes]] = {}
        for message, conversation in self._of(ANSWERS, partitions, after):
            answer = _decoded(message, AnswerGenerated)
            if answer is not None and answer.tracker_version > after[conversation]:
                answers.setdefault((conversation, answer.tracker_version), []).append(message.value() or b"")
        events: Dict[Place, List[Events]] = {}
        for message, conversation in self._of(DIALOGUE_EVENTS, partitions, after):
            turn = _decoded(message, TurnEvents)
            if turn is not None and (conversation, turn.tracker_version) in answers:
                events.setdefault((conversation, turn.tracker_version), []).append(turn.events)
        writes: Dict[str, List[TurnWrite]] = {}
        for place in sorted(answers):
            write = _write(answers[place], events.get(place, []))
            if write is not None:
                writes.setdefault(place[0], []).append(write)
        return writes

    def _of(self, topic: str, partitions: Sequence[int], wanted: Iterable[str]) -> Iterator[Tuple[Message, str]]:
        """Yield the last records of the wanted conversations, each with its conversation."""
        names = {conversation.encode(): conversation for conversation in wanted}
        for message in self._tail(topic, partitions):
            conversation = names.get(message.key() or b"")
            if conversation is not None:
                yield message, conversation

    def _tail(self, topic: str, partitions: Sequence[int]) -> Iterator[Message]:
        """Yield the last records of a topic, from the partitions with the keys of these inbox partitions."""
        name = self._settings.topic_prefix + topic
        with closing(TopicReader(self._settings)) as reader:
            bounds = reader.bounds(name, self._same(reader, name, partitions))
            ends = {number: end for number, (_, end) in bounds.items()}
            yield from reader.records(name, self._starts(reader, name, bounds), ends)

    def _same(self, reader: TopicReader, name: str, partitions: Sequence[int]) -> List[int]:
        """Return the topic's partitions that hold the conversations of these inbox partitions.

        They have the same numbers, unless the topics have different partition counts: then all partitions are returned.
        """
        counts = [reader.partitions(topic) for topic in (self._settings.topic_prefix + USER_QUERY, name)]
        return list(partitions) if counts[0] == counts[1] else list(range(counts[1]))

    def _starts(self, reader: TopicReader, name: str, bounds: Dict[int, Tuple[int, int]]) -> Dict[int, int]:
        """Return the offset to start at in each partition: the window's start, within MIN_RECORDS and MAX_RECORDS."""
        newest = reader.newest_ms(name, list(bounds))
        times = {number: max(0, newest_ms - self._window_ms) for number, newest_ms in newest.items()}
        starts = {}
        for number, since in reader.offsets_at(name, times).items():
            low, end = bounds[number]
            start = min(since if since >= 0 else end, end - MIN_RECORDS)
            starts[number] = max(start, end - MAX_RECORDS, low)
        return starts


def _decoded(message: Message, kind: Any) -> Any:
    """Return the event in a record; None if it can't be read, or if its conversation has expired."""
    try:
        event = decode(message.value() or b"", kind)
    except PoisonMessage:
        return None  # a record of another version or another program can't be used to mend
    # An older conversation has expired in Redis on purpose. Kafka deletes by segments, so it may still have the record.
    return event if event.ts > now_ms() - CONVERSATION_LIFETIME_S * 1000 else None


def _write(markers: List[bytes], candidates: List[Events]) -> Optional[TurnWrite]:
    """Return the write of the last answer whose events were published. Two owners may both have published a turn."""
    for marker in reversed(markers):
        answer = decode(marker, AnswerGenerated)
        for events in reversed([*candidates, []]):
            if len(events) == answer.events:
                version = answer.tracker_version - 1
                return TurnWrite(answer.message_id, version, answer.seq, events, marker, answer.replies)
    return None
