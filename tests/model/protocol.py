"""A small model of the atomic turn (ops/decisions/0003), one partition, two workers.

Each function below is one step of a worker, Redis or Kafka, or one fault. A state is the part of the
system that matters between two steps. `search.py` takes the steps in every order.
"""

from typing import Iterator, Optional, Tuple

from tests.model.state import (
    AGAIN,
    BROKEN,
    FOUND,
    FRESH,
    IDLE,
    RAN,
    STORED,
    TOLD,
    WAITING,
    Lane,
    Live,
    State,
    Worker,
    World,
    Write,
    change_lane,
    change_live,
    change_worker,
    replace_worker,
)

Steps = Iterator[Tuple[str, State]]


def steps(world: World, state: State) -> Steps:
    """Yield every possible step with the state that it leads to."""
    for n in range(2):
        yield from _worker_steps(world, state, n)
    yield from _fate_steps(world, state)


def _worker_steps(world: World, state: State, n: int) -> Steps:
    worker = state.workers[n]
    for c, lane in enumerate(worker.lanes):
        yield from _lane_steps(world, state, n, c, lane)
    yield from _commit(world, state, n)
    yield from _mend(world, state, n)
    if worker.believes and state.owner != n:
        yield f"{n} learns that it lost the partition", _learn(state, n)


def _lane_steps(world: World, state: State, n: int, c: int, lane: Lane) -> Steps:
    step = {
        IDLE: _take,
        AGAIN: _read_marker,
        FOUND: _read_turn,
        FRESH: _run,
        RAN: _write,
        WAITING: _wait,
        BROKEN: _mark_failed,
        STORED: _tell,
        TOLD: _answer,
    }[lane.at]
    yield from step(world, state, n, c, lane)


# The contents of Redis


def turns(state: State, c: int) -> Tuple[Write, ...]:
    """Return the writes of a conversation, oldest first."""
    return tuple(write for write in state.stored if write.conversation == c)


def _version(state: State, c: int) -> int:
    return len(turns(state, c))


def _seq(state: State, c: int) -> int:
    writes = turns(state, c)
    return writes[-1].seq if writes else 0


def _marker(state: State, c: int, message: str) -> Optional[Write]:
    return next((write for write in turns(state, c) if write.message == message), None)


def _store(state: State, write: Write) -> State:
    """Append a write; the customer's stream gets its replies at once."""
    c = write.conversation
    last = state.seen[c][-1].seq if state.seen[c] else 0
    seen = state.seen
    if write.seq > last and not write.failed:
        seen = (*seen[:c], (*seen[c], write), *seen[c + 1 :])
    return state._replace(stored=(*state.stored, write), seen=seen)


# One message through a worker


def _take(world: World, state: State, n: int, c: int, _: Lane) -> Steps:
    worker = state.workers[n]
    if not worker.believes:
        return
    for offset, (conversation, _message) in enumerate(world.messages):
        if conversation == c and offset >= worker.start and offset not in worker.done:
            fresh = Lane(AGAIN, offset, True)
            yield from _read_marker(world, change_lane(state, n, c, fresh), n, c, fresh)
            return


def _read_marker(world: World, state: State, n: int, c: int, lane: Lane) -> Steps:
    if not lane.mine:
        yield f"{n} leaves {lane.offset} to the owner", change_lane(state, n, c, Lane())
        return
    marker = _marker(state, c, world.messages[lane.offset][1])
    if marker is None or world.without == "marker read":
        yield f"{n} finds no marker of {lane.offset}", change_lane(state, n, c, lane._replace(at=FRESH))
    elif _replicated(world, state, marker):
        yield f"{n} finds the marker of {lane.offset}", change_lane(state, n, c, lane._replace(at=FOUND, write=marker))


def _read_turn(world: World, state: State, n: int, c: int, lane: Lane) -> Steps:
    """Read marker and events together; if a failover has lost them since, read the marker again."""
    if lane.write in state.stored:
        yield f"{n} reads the turn of {lane.offset}", change_lane(state, n, c, lane._replace(at=STORED))
    elif world.without == "marker and turn in one piece":
        yield f"{n} finds no turn of {lane.offset}", change_lane(state, n, c, lane._replace(at=TOLD))
    else:
        yield f"{n} finds the turn of {lane.offset} gone", change_lane(state, n, c, lane._replace(at=AGAIN, write=None))


def _run(world: World, state: State, n: int, c: int, lane: Lane) -> Steps:
    """Run the turn on the tracker, live or from Redis. A live tracker is checked out until its write succeeds."""
    worker = state.workers[n]
    live = worker.live[c]
    if live is None and not lane.mine:
        yield f"{n} leaves {lane.offset} to the owner", change_lane(state, n, c, Lane())
        return
    if live is None:
        if worker.mends < state.history and world.without != "mending at a load":
            return  # `_mend` comes first
        live = Live(_version(state, c), _seq(state, c), ())
    message = world.messages[lane.offset][1]
    if message in world.poison:
        yield f"{n} gives {message} up", change_lane(change_live(state, n, c, None), n, c, lane._replace(at=BROKEN))
        return
    key = (message, worker.run) if world.without == "idempotency key" else message
    state = state._replace(effects=state.effects | {key})
    write = Write(c, message, live.version + 1, live.seq + 1, worker.run)
    yield f"{n} runs {message}", change_lane(change_live(state, n, c, live), n, c, lane._replace(at=RAN, write=write))


def _write(world: World, state: State, n: int, c: int, lane: Lane) -> Steps:
    """Run the script. Its answer may be lost, `unsure` times; the same write is then sent again."""
    write = lane.write
    marker = _marker(state, c, write.message)
    if marker is not None and world.without != "marker in the script":
        yield f"{n} finds {write.message} stored", _found(world, state, n, c, lane, marker)
        return
    version = _version(state, c)
    if version != write.version - 1 and world.without != "version":
        yield from _conflict(world, state, n, c, lane, version)
        return
    written = _store(state, write)
    at = WAITING if world.waits else STORED
    yield f"{n} stores {write.message}", _acknowledged(written, n, c, lane, at, world)
    if state.unsure:
        yield f"{n} stores {write.message}, unheard", written._replace(unsure=state.unsure - 1)


def _found(world: World, state: State, n: int, c: int, lane: Lane, found: Write) -> State:
    """Handle a marker that is there: of this write, sent before, or of another worker's."""
    if found != lane.write:
        return change_lane(change_live(state, n, c, None), n, c, lane._replace(at=AGAIN, write=None))
    return _acknowledged(state, n, c, lane, WAITING if world.waits else STORED, world)


def _acknowledged(state: State, n: int, c: int, lane: Lane, at: int, world: World) -> State:
    write, live = lane.write, state.workers[n].live[c]
    writes = (*(live.writes if live else ()), write)[-world.remembered :]
    kept = Live(write.version, write.seq, writes) if lane.mine else None
    return change_lane(change_live(state, n, c, kept), n, c, lane._replace(at=at))


def _wait(world: World, state: State, n: int, c: int, lane: Lane) -> Steps:
    """WAIT until a replica has the write; send it again if a failover lost it meanwhile."""
    if lane.write not in state.stored:
        yield f"{n} sends {lane.write.message} again", change_lane(state, n, c, lane._replace(at=RAN))
    elif _replicated(world, state, lane.write):
        yield f"{n} has {lane.write.message} replicated", change_lane(state, n, c, lane._replace(at=STORED))


def _replicated(world: World, state: State, write: Write) -> bool:
    return not world.waits or world.without == "wait" or state.stored.index(write) < state.safe


def _conflict(world: World, state: State, n: int, c: int, lane: Lane, version: int) -> Steps:
    """Handle a changed version: if higher, start again; if lower, write the lost turns again from memory."""
    if version < lane.write.version - 1:
        live = state.workers[n].live[c]
        missing = [write for write in (live.writes if live else ()) if write.version == version + 1]
        known = missing and _marker(state, c, missing[0].message) is None
        if known and world.without != "mending from memory":
            yield f"{n} writes {missing[0].message} again", _store(state, missing[0])
            return
        state = change_worker(state, n, mends=-1)  # not in memory: the published turns mend it before the next load
    yield (
        f"{n} starts {lane.offset} again",
        change_lane(change_live(state, n, c, None), n, c, lane._replace(at=AGAIN, write=None)),
    )


def _mark_failed(world: World, state: State, n: int, c: int, lane: Lane) -> Steps:
    """Write the marker of a dead letter before the letter."""
    message = world.messages[lane.offset][1]
    marker = _marker(state, c, message)
    if marker is not None:
        yield f"{n} finds {message} stored", change_lane(state, n, c, lane._replace(at=AGAIN))
        return
    if not lane.mine:
        yield f"{n} leaves {lane.offset} to the owner", change_lane(state, n, c, Lane())
        return
    if state.workers[n].mends < state.history and world.without != "mending at a load":
        return
    write = Write(c, message, _version(state, c) + 1, _seq(state, c), state.workers[n].run, True)
    written = _store(state, write)
    at = WAITING if world.waits else STORED
    yield f"{n} marks {message} failed", change_lane(written, n, c, lane._replace(at=at, write=write))


def _tell(world: World, state: State, n: int, c: int, lane: Lane) -> Steps:
    """Publish the turn's events, or the dead letter."""
    if lane.write.failed and world.without == "letter before the commit":
        after = state
    elif lane.write.failed:
        after = state._replace(letters=state.letters | {lane.write.message})
    else:
        after = state._replace(told=state.told | {lane.write})
    yield f"{n} tells of {lane.write.message}", change_lane(after, n, c, lane._replace(at=TOLD))
    if world.without == "publishing before the commit":
        yield f"{n} is done with {lane.offset} too early", _done(state, n, lane)


def _answer(world: World, state: State, n: int, c: int, lane: Lane) -> Steps:
    """Publish the answer and finish. A mending that began earlier missed it: the partition is in doubt again."""
    if lane.mine and lane.stale and world.without != "doubt":
        read = state.workers[n].read if world.without == "doubt within a mending" else None
        state = change_worker(state, n, mends=-1, read=read)
    out = state._replace(answers=state.answers | {lane.write})
    yield f"{n} publishes {lane.write.message}", change_lane(_done(out, n, lane), n, c, Lane())


def _done(state: State, n: int, lane: Lane) -> State:
    worker = state.workers[n]
    return change_worker(state, n, done=tuple(sorted({*worker.done, lane.offset}))) if lane.mine else state


def _commit(world: World, state: State, n: int) -> Steps:
    """Commit; Kafka takes the commit of the owner only."""
    worker = state.workers[n]
    lowest = worker.start
    while lowest in worker.done:
        lowest += 1
    if worker.believes and state.owner == n and lowest > state.committed:
        yield f"{n} commits {lowest}", state._replace(committed=lowest)


def _learn(state: State, n: int) -> State:
    worker = state.workers[n]
    lanes = tuple(lane._replace(mine=False) for lane in worker.lanes)
    out = tuple(live if lane.at in (RAN, WAITING) else None for live, lane in zip(worker.live, lanes, strict=True))
    return change_worker(state, n, believes=False, lanes=lanes, live=out, mends=-1, read=None)


# Mending of writes that Redis lost


def _mend(world: World, state: State, n: int) -> Steps:
    """Mend Redis from the published turns: read them, write one turn a step, then mark the history as mended.

    A turn published after the read puts the partition in doubt again, and the mending starts over.
    """
    worker = state.workers[n]
    if not worker.believes or worker.mends == state.history or world.without == "mending at a load":
        return
    if not world.failovers:  # nothing can be lost: the time of the look makes no difference
        yield f"{n} has mended", change_worker(state, n, mends=state.history)
        return
    if worker.read is None:
        whole = state.answers & (state.told | {write for write in state.answers if write.failed})
        lost = tuple(sorted(write for write in whole if write.version > _version(state, write.conversation)))
        lanes = tuple(lane if lane.at == IDLE else lane._replace(stale=True) for lane in worker.lanes)
        yield f"{n} reads what is published", change_worker(state, n, lanes=lanes, read=(state.history, lost))
        return
    history, lost = worker.read
    for write in lost:
        c = write.conversation
        if write.version == _version(state, c) + 1 and _marker(state, c, write.message) is None:
            yield f"{n} mends {write.message}", _store(state, write)
            return
    yield f"{n} has mended", change_worker(state, n, mends=history, read=None)


# Faults


def _fate_steps(world: World, state: State) -> Steps:
    for n in range(2):
        if state.crashes and _busy(state, n):
            yield f"{n} crashes", _crash(state, n)
        if state.evictions:
            yield from _evict(state, n)
    if state.owner < 0:
        for n in range(2):
            if not state.workers[n].believes:
                yield f"{n} gets the partition", _assign(state, n)
    elif state.moves and not state.workers[1 - state.owner].believes:
        yield (
            f"the partition moves to {1 - state.owner}",
            _assign(state._replace(moves=state.moves - 1), 1 - state.owner),
        )
    if world.waits and state.safe < len(state.stored):
        yield "the replica has one more write", state._replace(safe=state.safe + 1)
    if state.failovers:
        for lost in range(1, min(world.lost, len(state.stored) - state.safe) + 1):
            kept = state.stored[: len(state.stored) - lost]
            left = state._replace(stored=kept, history=state.history + 1, failovers=state.failovers - 1)
            yield f"a failover loses {lost}", left


def _busy(state: State, n: int) -> bool:
    return state.workers[n].believes or any(lane.at != IDLE for lane in state.workers[n].lanes)


def _crash(state: State, n: int) -> State:
    worker = state.workers[n]
    nothing = tuple(Lane() for _ in worker.lanes)
    fresh = Worker(False, 0, (), nothing, (None,) * len(nothing), -1, worker.run + 1)
    owner = -1 if state.owner == n else state.owner
    return replace_worker(state._replace(crashes=state.crashes - 1, owner=owner), n, fresh)


def _assign(state: State, n: int) -> State:
    state = change_worker(state, n, believes=True, start=state.committed, done=(), mends=-1, read=None)
    return state._replace(owner=n)


def _evict(state: State, n: int) -> Steps:
    for c, live in enumerate(state.workers[n].live):
        if live is not None and state.workers[n].lanes[c].at not in (RAN, WAITING):
            yield f"{n} forgets {c}", change_live(state._replace(evictions=state.evictions - 1), n, c, None)
