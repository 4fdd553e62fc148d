"""Reads `user.query.dlq`: dead letters, and the records that say what was done with them.

In: the topic, which keeps both for 30 days. Out: letters in the order of their partition, each
with its state. Memory grows with the letters of one partition by some ten bytes each, and some
hundred for each that was handled, never with their contents.
"""

import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from kefu.codec import decode
from kefu.errors import PoisonMessage, QueueUnavailable
from kefu.events import DEAD_LETTERS, DeadLetterHandled
from kefu.headers import ERROR_CLASS, HANDLES
from kefu.kafka import damped_errors
from kefu.settings import KafkaSettings
from kefu.tools.dlq.letters import REPLAYED, REPLAYING, Letter, Position, State, Wanted, read_said
from kefu.topic_reader import NEW_S, PAUSE_S

BATCH = 500
BUFFER_KBYTES = 8 * 1024
SILENCE_S = 30.0
REQUEST_S = 10.0


class Letters:
    """The reader. Every method blocks, and raises QueueUnavailable when Kafka doesn't answer."""

    def __init__(self, settings: KafkaSettings, silence_s: float = SILENCE_S) -> None:
        self._topic = settings.topic_prefix + DEAD_LETTERS
        self._silence_s = silence_s
        self._consumer = Consumer(
            {
                **settings.client_config(),
                "group.id": f"{settings.group}.dlq",  # the client wants one; nothing is committed
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "queued.max.messages.kbytes": BUFFER_KBYTES,
                "fetch.wait.max.ms": 10,  # a fetch that waits at the end of a partition holds up every other request
                **damped_errors(),
            }
        )

    def find(self, wanted: Wanted) -> Iterator[Tuple[Letter, State]]:
        """Yield the letters that are asked for, each once however many copies there are."""
        for partition in self._partitions():
            states = self._states(partition)
            seen: Set[int] = set()
            start = self._offset_at(partition, wanted.since)
            for letter in self._letters(partition, start):
                short_id = int(letter.id[:16], 16)
                state = states.get(letter.id, State())
                if short_id not in seen and wanted.takes(letter, state):
                    seen.add(short_id)
                    yield letter, state

    def at(self, positions: List[Position]) -> Iterator[Tuple[Position, Optional[Letter], State]]:
        """Yield the letters at these places; None where there is none (any more)."""
        partitions = set(self._partitions())
        for partition in sorted({position.partition for position in positions}):
            states = self._states(partition) if partition in partitions else {}
            for position in sorted(each for each in positions if each.partition == partition):
                letter = self._letter(position) if partition in partitions else None
                yield position, letter, states.get(letter.id, State()) if letter else State()

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _partitions(self) -> List[int]:
        deadline = time.monotonic() + NEW_S
        while True:
            found = self._ask(lambda: self._consumer.list_topics(self._topic, REQUEST_S).topics[self._topic])
            if found.error is None:
                return sorted(found.partitions)
            if found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise QueueUnavailable(f"{self._topic}: {found.error.name()}")
            time.sleep(PAUSE_S)

    def _states(self, partition: int) -> Dict[str, State]:
        """Return what was done with the letters of a partition, by their ids."""
        states: Dict[str, State] = {}
        for message in self._read(partition, 0):
            if not _is_handling(message):
                continue
            try:
                done = decode(message.value() or b"", DeadLetterHandled)
            except PoisonMessage:
                continue  # not by us: it handles nothing
            _follow(states, done)
        return states

    def _letters(self, partition: int, start: int) -> Iterator[Letter]:
        for message in self._read(partition, start):
            if not _is_handling(message):
                yield _letter(message)

    def _letter(self, position: Position) -> Optional[Letter]:
        for message in self._read(position.partition, position.offset, position.offset + 1):
            if message.offset() == position.offset and not _is_handling(message):
                return _letter(message)
        return None

    def _offset_at(self, partition: int, since: Optional[int]) -> int:
        """Return the first offset that may hold a record of this time or later."""
        if since is None:
            return 0
        asked = [TopicPartition(self._topic, partition, since)]
        offset = self._ask(lambda: self._consumer.offsets_for_times(asked, REQUEST_S))[0].offset
        return offset if offset >= 0 else self._ends(partition)[1]

    def _ends(self, partition: int) -> Tuple[int, int]:
        asked = TopicPartition(self._topic, partition)
        return self._ask(lambda: self._consumer.get_watermark_offsets(asked, REQUEST_S))

    def _ask(self, call: Callable[[], Any]) -> Any:
        """Ask Kafka, and again while it says that it can't answer now: a leader may be moving."""
        end = time.monotonic() + self._silence_s
        while True:
            try:
                return call()
            except KafkaException as error:
                if not _passing(error.args[0]) or time.monotonic() > end:
                    raise QueueUnavailable(f"{self._topic}: {error.args[0].name()}") from error
            time.sleep(PAUSE_S)

    def _read(self, partition: int, start: int, end: Optional[int] = None) -> Iterator[Message]:
        """Yield the records from `start` to `end`, or to where the partition ends now."""
        low, high = self._ends(partition)
        end = high if end is None else min(end, high)
        if max(low, start) >= end:
            return
        self._consumer.assign([TopicPartition(self._topic, partition, max(low, start))])
        while True:
            for message in self._next():
                if message.error() is None and message.offset() < end:
                    yield message
                if _at_end(message, end):
                    return

    def _next(self) -> List[Message]:
        """Return what comes next, as soon as anything does."""
        first = self._consumer.poll(self._silence_s)
        if first is None:
            raise QueueUnavailable(f"{self._topic}: no answer within {self._silence_s:.0f} s")
        return [first, *self._consumer.consume(BATCH, 0)]


def _passing(error: KafkaError) -> bool:
    return error.retriable() or error.code() in (
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
    )


def _at_end(message: Message, end: int) -> bool:
    error = message.error()
    if error is None:
        return message.offset() >= end - 1
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    if _passing(error):
        return False
    raise QueueUnavailable(f"{DEAD_LETTERS}: {error.name()}")


def _is_handling(message: Message) -> bool:
    names = {name for name, _ in message.headers() or []}
    return HANDLES in names and ERROR_CLASS not in names


def _follow(states: Dict[str, State], done: DeadLetterHandled) -> None:
    """Take in what was done; a replay that is begun again after it went out changes nothing."""
    before = states.get(done.letter, State())
    if done.outcome == REPLAYING and done.attempt <= before.attempt and before.outcome == REPLAYED:
        return
    states[done.letter] = State(done.outcome, done.attempt, done.actor, done.ts)


def _letter(message: Message) -> Letter:
    said, flaw = read_said(message.key() or b"", message.value() or b"")
    return Letter(
        Position(message.partition(), message.offset()),
        message.timestamp()[1],
        message.key() or b"",
        message.value() or b"",
        tuple((name, value or b"") for name, value in message.headers() or []),
        said,
        flaw,
    )
