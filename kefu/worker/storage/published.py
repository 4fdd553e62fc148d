"""Reads back what was published last, to mend a Redis that lost it.

In: partitions of the inbox. Out: the turns at the end of `answer.generated` and `dialogue.events`
as the writes that stored them. Blocks: call it in a thread.
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

# At least so many records a partition, also from before the window: a worker's clock may have been wrong.
MIN_RECORDS = 500
MAX_RECORDS = 100_000


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
            partition = message.partition()
            assert partition is not None  # it came from one
            if before is None or before.version < answer.tracker_version:
                found[conversation] = Newest(answer.tracker_version, partition)
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
                answers.setdefault((conversation, answer.tracker_version), []).append(message.value() or b"")
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
            conversation = names.get(message.key() or b"")
            if conversation is not None:
                yield message, conversation

    def _tail(self, topic: str, partitions: Sequence[int]) -> Iterator[Message]:
        """Yield the last records of these partitions of the inbox in another topic."""
        name = self._settings.topic_prefix + topic
        with closing(TopicReader(self._settings)) as reader:
            bounds = reader.bounds(name, self._same(reader, name, partitions))
            ends = {number: end for number, (_, end) in bounds.items()}
            yield from reader.records(name, self._starts(reader, name, bounds), ends)

    def _same(self, reader: TopicReader, name: str, partitions: Sequence[int]) -> List[int]:
        """Return the partitions that hold the same keys, or all where the topics' numbers differ."""
        counts = [reader.partitions(topic) for topic in (self._settings.topic_prefix + USER_QUERY, name)]
        return list(partitions) if counts[0] == counts[1] else list(range(counts[1]))

    def _starts(self, reader: TopicReader, name: str, bounds: Dict[int, Tuple[int, int]]) -> Dict[int, int]:
        """Return where to begin in each partition: at the window's start, within the numbers of records."""
        newest = reader.newest_ms(name, list(bounds))
        times = {number: max(0, newest_ms - self._window_ms) for number, newest_ms in newest.items()}
        starts = {}
        for number, since in reader.offsets_at(name, times).items():
            low, end = bounds[number]
            start = min(since if since >= 0 else end, end - MIN_RECORDS)
            starts[number] = max(start, end - MAX_RECORDS, low)
        return starts


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
