"""Reads `user.query.dlq`: dead letters, and the records of their handling.

In: the topic, which keeps both for 30 days. Out: letters in the order of their partition, each with its state. Only the
ids and states of one partition's letters are in memory at a time: tens of bytes for a letter, hundreds for a handled
one.
"""

from typing import Dict, Iterator, List, Optional, Set, Tuple

from kafka.consumer.fetcher import ConsumerRecord

from kefu.codec import decode
from kefu.errors import PoisonMessage
from kefu.events import DEAD_LETTERS, DeadLetterHandled
from kefu.headers import ERROR_CLASS, HANDLES
from kefu.settings import KafkaSettings
from kefu.tools.clients import TIMEOUT_S
from kefu.tools.dlq.letters import REPLAYED, REPLAYING, Letter, Position, State, Wanted, read_said
from kefu.tools.topic_reader import TopicReader


class Letters:
    """The dead letters in Kafka. Every method blocks, and raises QueueUnavailable when Kafka doesn't answer."""

    def __init__(self, settings: KafkaSettings, silence_s: float = TIMEOUT_S) -> None:
        self._topic = settings.topic_prefix + DEAD_LETTERS
        self._reader = TopicReader(settings, silence_s)

    def find(self, wanted: Wanted) -> Iterator[Tuple[Letter, State]]:
        """Yield the letters that the filter selects, each once even if it has copies."""
        for partition in range(self._reader.partitions(self._topic)):
            states = self._states(partition)
            seen: Set[int] = set()
            start = 0 if wanted.since is None else self._reader.offset_at(self._topic, partition, wanted.since)
            for letter in self._letters(partition, start):
                short_id = int(letter.id[:16], 16)
                state = states.get(letter.id, State())
                if short_id not in seen and wanted.takes(letter, state):
                    seen.add(short_id)
                    yield letter, state

    def at(self, positions: List[Position]) -> Iterator[Tuple[Position, Optional[Letter], State]]:
        """Yield the letters at these positions; None for a position without a letter, or whose letter is gone."""
        partitions = range(self._reader.partitions(self._topic))
        for partition in sorted({position.partition for position in positions}):
            states = self._states(partition) if partition in partitions else {}
            for position in sorted(each for each in positions if each.partition == partition):
                letter = self._letter(position) if partition in partitions else None
                yield position, letter, states.get(letter.id, State()) if letter else State()

    def close(self) -> None:
        """Close the connections to Kafka."""
        self._reader.close()

    def _states(self, partition: int) -> Dict[str, State]:
        """Return the states of a partition's handled letters, by letter id."""
        states: Dict[str, State] = {}
        for message in self._reader.records(self._topic, partition):
            if not _is_handling(message):
                continue
            try:
                done = decode(message.value or b"", DeadLetterHandled)
            except PoisonMessage:
                continue  # not written by this command, so it is no handling
            _follow(states, done)
        return states

    def _letters(self, partition: int, start: int) -> Iterator[Letter]:
        for message in self._reader.records(self._topic, partition, start):
            if not _is_handling(message):
                yield _letter(message)

    def _letter(self, position: Position) -> Optional[Letter]:
        place = (position.partition, position.offset, position.offset + 1)
        for message in self._reader.records(self._topic, *place):
            if message.offset == position.offset and not _is_handling(message):
                return _letter(message)
        return None


def _is_handling(message: ConsumerRecord) -> bool:
    """Return whether a record tells of the handling of a letter, and is no letter itself."""
    names = {name for name, _ in message.headers}
    return HANDLES in names and ERROR_CLASS not in names


def _follow(states: Dict[str, State], done: DeadLetterHandled) -> None:
    """Update the state of a letter; a late `replaying` record does not undo `replayed` of the same attempt."""
    before = states.get(done.letter, State())
    if done.outcome == REPLAYING and done.attempt <= before.attempt and before.outcome == REPLAYED:
        return
    states[done.letter] = State(done.outcome, done.attempt, done.actor, done.ts)


def _letter(message: ConsumerRecord) -> Letter:
    said, flaw = read_said(message.key or b"", message.value or b"")
    return Letter(
        Position(message.partition, message.offset),
        message.timestamp,
        message.key or b"",
        message.value or b"",
        tuple((name, value or b"") for name, value in message.headers),
        said,
        flaw,
    )
