"""What the model of the atomic turn is made of: Redis, Kafka and two workers between two steps."""

from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

# How far a lane is. What nobody else can see is one step: to take a message and read its marker, to
# have the last acknowledgement and be done.
IDLE, AGAIN, FOUND, FRESH, RAN, WAITING, BROKEN, STORED, TOLD = range(9)


class Write(NamedTuple):
    """A turn as Redis stores it. `run` tells two runs of one message apart, as their texts might."""

    conversation: int
    message: str
    version: int
    seq: int
    run: int
    failed: bool = False


class Lane(NamedTuple):
    """One conversation's lane in a worker: the message under way and how far it is.

    `stale`: since it took the message the worker has learnt of another of Redis's histories.
    """

    at: int = IDLE
    offset: int = -1
    mine: bool = False
    write: Optional[Write] = None
    stale: bool = False


class Live(NamedTuple):
    """What a worker remembers of a conversation: where it stands, and its last writes, oldest first."""

    version: int
    seq: int
    writes: Tuple[Write, ...]


class Worker(NamedTuple):
    """A process.

    Attributes:
        mends: the histories of Redis up to this one are mended, as far as it knows; -1 for none.
        read: while it mends, that history and what it found published and not stored.
    """

    believes: bool
    start: int
    done: Tuple[int, ...]
    lanes: Tuple[Lane, ...]
    live: Tuple[Optional[Live], ...]
    mends: int
    run: int
    read: Optional[Tuple[int, Tuple[Write, ...]]] = None


class State(NamedTuple):
    """Everything. `stored` is Redis as the writes it took; the first `safe` of them no failover loses."""

    stored: Tuple[Write, ...]
    safe: int
    history: int
    told: frozenset
    answers: frozenset
    letters: frozenset
    effects: frozenset
    seen: Tuple[Tuple[Write, ...], ...]
    committed: int
    owner: int
    workers: Tuple[Worker, Worker]
    crashes: int
    moves: int
    unsure: int
    failovers: int
    evictions: int


@dataclass(frozen=True)
class World:
    """What is tried: the messages of the partition, how much may go wrong, and which rule is left out.

    Attributes:
        messages: conversation and message id of each offset; one id twice is a client's repetition.
        poison: ids whose turn always fails.
        lost: how many writes a failover may lose at most.
        waits: whether a write counts only once a replica has it (WAIT).
        remembered: how many writes of a conversation a worker can write again from memory.
        without: the rule that is broken on purpose, see `tests/model/test_protocol.py`.
    """

    messages: Tuple[Tuple[int, str], ...]
    poison: frozenset = frozenset()
    crashes: int = 0
    moves: int = 0
    unsure: int = 0
    failovers: int = 0
    evictions: int = 0
    lost: int = 2
    waits: bool = False
    remembered: int = 2
    without: str = ""

    @property
    def conversations(self) -> int:
        """How many conversations there are."""
        return 1 + max(conversation for conversation, _ in self.messages)


def first(world: World) -> State:
    """Return the beginning: nothing stored, worker 0 owns the partition."""
    lanes, live = (Lane(),) * world.conversations, (None,) * world.conversations
    idle = [Worker(n == 0, 0, (), lanes, live, 0 if n == 0 else -1, n * 10) for n in range(2)]
    nothing: frozenset = frozenset()
    budget = (world.crashes, world.moves, world.unsure, world.failovers, world.evictions)
    seen = ((),) * world.conversations
    return State((), 0, 0, nothing, nothing, nothing, nothing, seen, 0, 0, (idle[0], idle[1]), *budget)


def replace_worker(state: State, n: int, worker: Worker) -> State:
    """Return the state with another worker at `n`."""
    workers = (worker, state.workers[1]) if n == 0 else (state.workers[0], worker)
    return state._replace(workers=workers)


def change_worker(state: State, n: int, **changes: object) -> State:
    """Return the state with these fields of worker `n` changed."""
    return replace_worker(state, n, state.workers[n]._replace(**changes))


def change_lane(state: State, n: int, c: int, lane: Lane) -> State:
    """Return the state with another lane for conversation `c` in worker `n`."""
    lanes = state.workers[n].lanes
    return change_worker(state, n, lanes=(*lanes[:c], lane, *lanes[c + 1 :]))


def change_live(state: State, n: int, c: int, live: Optional[Live]) -> State:
    """Return the state with what worker `n` remembers of conversation `c`."""
    held = state.workers[n].live
    return change_worker(state, n, live=(*held[:c], live, *held[c + 1 :]))
