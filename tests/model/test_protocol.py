"""The protocol of the turn keeps its promises in every order of its steps, and each of its rules is needed."""

import pytest

from tests.model.promises import broken
from tests.model.protocol import steps
from tests.model.search import Search
from tests.model.state import World, first

TWO = ((0, "m1"), (0, "m2"))
THREE = (*TWO, (0, "m3"))
REPEATED = ((0, "m1"), (0, "m1"), (0, "m2"))
SIDE_BY_SIDE = ((0, "m1"), (1, "n1"))
LIMIT = 200_000

WORLDS = {
    "a worker dies at any point, the partition moves, an answer of Redis is lost": World(
        TWO, crashes=1, moves=1, unsure=1
    ),
    "workers die twice": World(TWO, crashes=2, unsure=1),
    "two owners, three messages": World(THREE, moves=1),
    "a customer sends a message twice": World(REPEATED, moves=1),
    "conversations side by side": World(SIDE_BY_SIDE, moves=1),
    "a message that always fails": World(TWO, poison=frozenset({"m1"}), crashes=1, moves=1),
    "Redis fails over and loses two writes": World(TWO, failovers=1, crashes=1, evictions=1, unsure=1),
    "Redis fails over twice": World(TWO, failovers=2, crashes=1, evictions=1),
    "Redis fails over under two owners": World(TWO, failovers=1, moves=1),
    "Redis fails over, a message always fails": World(
        TWO, poison=frozenset({"m1"}), failovers=1, crashes=1, evictions=1
    ),
    "Redis fails over, a worker can write one turn again": World(THREE, failovers=1, crashes=1, remembered=1),
    "a replica is waited for, Redis fails over": World(TWO, waits=True, failovers=1, crashes=1, unsure=1),
    "a replica is waited for, Redis fails over under two owners": World(TWO, waits=True, failovers=1, moves=1),
}

NEEDED = {
    "marker in the script": (WORLDS["two owners, three messages"], "out of order"),
    "version": (WORLDS["two owners, three messages"], "versions have a gap or a repetition"),
    "publishing before the commit": (WORLDS["workers die twice"], "committed and not published"),
    "idempotency key": (WORLDS["two owners, three messages"], "side effect happened twice"),
    "letter before the commit": (WORLDS["a message that always fails"], "no dead letter"),
    "marker read": (WORLDS["workers die twice"], "no end can be reached"),
    "mending at a load": (WORLDS["Redis fails over and loses two writes"], "out of order"),
    "marker and turn in one piece": (WORLDS["Redis fails over twice"], "out of order"),
    "doubt": (WORLDS["Redis fails over and loses two writes"], "out of order"),
    "doubt within a mending": (WORLDS["Redis fails over and loses two writes"], "out of order"),
    "wait": (WORLDS["a replica is waited for, Redis fails over"], "is not what is stored"),
}


def search(world, limit=LIMIT):
    return Search(first(world), lambda s: steps(world, s), lambda s, is_end: broken(world, s, is_end), limit).run()


@pytest.mark.parametrize("name", WORLDS)
def test_promises_hold_in_every_order_of_steps(name):
    """The model's states are searched for a broken promise, with faults of every kind."""
    result = search(WORLDS[name])
    assert result.violation is None, "\n".join((result.violation, *result.way))


@pytest.mark.parametrize("rule", NEEDED)
def test_every_rule_is_needed(rule):
    """Without the rule, some order of the steps breaks a promise."""
    world, complaint = NEEDED[rule]
    result = search(World(**{**vars(world), "without": rule}))
    assert result.violation is not None, f"{result.states} states, and {rule} is not needed"
    assert complaint in result.violation


def test_search_beyond_its_limit_raises():
    with pytest.raises(RuntimeError, match="more than 100 states"):
        search(WORLDS["workers die twice"], limit=100)
