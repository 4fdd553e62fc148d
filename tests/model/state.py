"""The state of the model of the atomic turn: Redis, Kafka and two workers between two steps."""

from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

# The progress of a lane. Actions that no other process can observe are one step: taking a message and reading
# its marker; getting the last acknowledgement and finishing.
IDLE, AGAIN, FOUND, FRESH, RAN, WAITING, BROKEN, STORED, TOLD = range(9)


class Write(NamedTuple):
    """A turn as Redis stores it. `run` differs between two runs of a message, as their texts may."""

    conversation: int
    message: str
    version: int
    seq: int
    run: int
    failed: bool = False


class Lane(NamedTuple):
    """One conversation's lane in a worker: the current message and its progress.

    `stale`: the worker has read the published turns for a mending since it took the message.
    """

    at: int = IDLE
    offset: int = -1
    mine: bool = False
    write: Optional[Write] = None
    stale: bool = False


class Live(NamedTuple):
    """A conversation in memory of a worker: its version, its sequence number, its last writes, oldest first."""

    version: int
    seq: int
    writes: Tuple[Write, ...]


class Worker(NamedTuple):
    """A process.

    Attributes:
        mends: the last history of Redis that it knows to be mended; -1 for none.
        read: during a mending, the history and the published turns that Redis lacks.
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
    """The whole system. `stored`: the writes in Redis; `safe`: how many of them no failover loses."""

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
    """One experiment: the messages of the partition, the number of faults, and the rule left out.

    Attributes:
        messages: conversation and message id of each offset; a repeated id is a message sent twice.
        poison: ids whose turn always fails.
        lost: the most writes that one failover may lose.
        waits: whether a write is acknowledged only once a replica has it (WAIT).
        remembered: the number of writes per conversation that a worker can repeat from memory.
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
        """Return the number of conversations."""
        return 1 + max(conversation for conversation, _ in self.messages)


def first(world: World) -> State:
    """Return the first state: nothing is stored, worker 0 owns the partition."""
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
    """Return the state with worker `n`'s memory of conversation `c` replaced."""
    held = state.workers[n].live
    return change_worker(state, n, live=(*held[:c], live, *held[c + 1 :]))
