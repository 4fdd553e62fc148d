"""The promises of the product, checked on every state of the model."""

from typing import Iterable, Iterator, List, Optional

from tests.model.protocol import turns
from tests.model.state import State, World, Write


def broken(world: World, state: State, is_end: bool) -> Optional[str]:
    """Return the first promise that a state breaks, None if all hold."""
    return next(_complaints(world, state, is_end), None)


def _complaints(world: World, state: State, is_end: bool) -> Iterator[str]:
    yield from _nothing_is_lost(world, state)
    yield from _answered_once(world, state)
    for c in range(world.conversations):
        yield from _in_order(world, c, turns(state, c))
    yield from _one_version_one_message(state)
    if is_end:
        yield from _all_is_answered(world, state)


def _nothing_is_lost(world: World, state: State) -> Iterator[str]:
    """Every committed message was published; every failed one is a dead letter."""
    published = {write.message for write in state.answers}
    for _, message in world.messages[: state.committed]:
        if message not in published:
            yield f"{message} is committed and not published"
        if message in world.poison and message not in state.letters:
            yield f"{message} failed, is committed, and no dead letter"


def _answered_once(world: World, state: State) -> Iterator[str]:
    """A message has one turn, one answer and one side effect."""
    keys = [key[0] if isinstance(key, tuple) else key for key in state.effects]
    if len(set(keys)) < len(keys):
        yield "a side effect happened twice"
    if _may_repeat(world, state):
        return
    if len({write.message for write in state.answers}) < len(state.answers):
        yield "two answers to one message were published"
    for write in state.answers:
        if write not in state.stored:
            yield f"what was published of {write.message} is not what is stored"


def _may_repeat(world: World, state: State) -> bool:
    """Return whether replies may repeat under the same ids: after the loss of an unreplicated write."""
    return not world.waits and state.history > 0


def _in_order(world: World, c: int, stored: Iterable[Write]) -> Iterator[str]:
    """Turns follow the order of the partition, one version each; replies are numbered without gaps."""
    writes = list(stored)
    if [write.version for write in writes] != list(range(1, len(writes) + 1)):
        yield "versions have a gap or a repetition"
    answered = [write for write in writes if not write.failed]
    if [write.seq for write in answered] != list(range(1, len(answered) + 1)):
        yield "sequence numbers have a gap or a repetition"
    asked = _asked(world, c)
    if [write.message for write in writes] != asked[: len(writes)]:
        yield "turns are out of order"


def _one_version_one_message(state: State) -> Iterator[str]:
    """No two messages were published under one version or one sequence number."""
    places = {(write.conversation, write.version, write.message) for write in state.answers}
    if len({place[:2] for place in places}) < len(places):
        yield "two messages were published under one version"
    numbers = {(write.conversation, write.seq, write.message) for write in state.answers if not write.failed}
    if len({number[:2] for number in numbers}) < len(numbers):
        yield "two messages were published under one sequence number"


def _all_is_answered(world: World, state: State) -> Iterator[str]:
    """At the end no message waits, and a customer who listened all the time has every reply, in order."""
    if state.committed < len(world.messages):
        yield "the end comes with messages that nobody will process"
    for c in range(world.conversations):
        wanted = [message for message in _asked(world, c) if message not in world.poison]
        if [write.message for write in turns(state, c) if not write.failed] != wanted:
            yield "the store lacks turns at the end"
        if [write.message for write in state.seen[c]] != wanted:
            yield "a customer who listened missed a reply, or heard one twice"


def _asked(world: World, c: int) -> List[str]:
    """Return the message ids of a conversation in order, without repetitions."""
    ids: List[str] = []
    for conversation, message in world.messages:
        if conversation == c and message not in ids:
            ids.append(message)
    return ids
