"""What a run consists of: the steps of each round, in a full run and in a short one."""

from dataclasses import dataclass
from typing import Dict, Mapping, Tuple

from ops.bench.scripts import ORDERS, TALK


@dataclass(frozen=True)
class Way:
    """How one system does a step.

    Attributes:
        driver: the way in, see `Job`.
        users: conversations at once.
        conversations: how many in all; the step's time may end it earlier. Of a step by the clock both follow from
            its rate.
    """

    driver: str
    users: int = 0
    conversations: int = 0


@dataclass(frozen=True)
class Step:
    """One scenario, which the systems do one after the other.

    Attributes:
        turns: length of a conversation.
        ways: by system; a system without one leaves the step out.
        seconds: after so long the step is cut short; `turns_reached` tells.
        rounds: the first rounds, which the step is part of.
        by_clock: messages come by the clock at a share of the rate that the system reached before.
    """

    script: str
    turns: int
    ways: Mapping[str, Way]
    seconds: float
    rounds: int
    by_clock: bool = False


@dataclass(frozen=True)
class Plan:
    """The sizes of a run.

    Attributes:
        steps: of a round, in order.
        most_idle: most customers to choose the next sender from where messages come by the clock.
        epochs: by which stock Rasa's model is trained.
        starts: how often the worker is started anew.
        accepting: what is asked of the gateway alone, once the rounds are over.
        nlu: how often the NLU of each system is measured by itself; stock's alone takes 20 s to load.
    """

    steps: Tuple[Step, ...]
    most_idle: int
    epochs: int
    starts: int
    accepting: Step
    nlu: Mapping[str, int]


def _alone(script: str, turns: int, stock: int, kefu: int, seconds: float, rounds: int, users: int = 16) -> Step:
    """Return a step of the process that runs Rasa alone; stock has half the users, for it has fewer conversations."""
    ways: Dict[str, Way] = {"kefu": Way("kafka", min(users * 2, kefu), kefu)}
    if stock:
        ways["stock"] = Way("stock", min(users, stock), stock)
    return Step(script, turns, ways, seconds, rounds)


def _whole(script: str, users: int, conversations: int, seconds: float, rounds: int) -> Step:
    """Return a step of the whole system. Stock has none: its own process is all that its customers reach."""
    return Step(script, 5, {"kefu": Way("gateway", users, conversations)}, seconds, rounds)


def _by_clock(script: str, seconds: float, rounds: int) -> Step:
    return Step(script, 5, {"stock": Way("stock"), "kefu": Way("gateway")}, seconds, rounds, by_clock=True)


def _accepting(users: int, seconds: float, rounds: int) -> Step:
    return Step(TALK, 5, {"kefu": Way("accept", users, 20_000)}, seconds, rounds)


# The time that stock needs for a turn grows with the number of turns, so it gets fewer of the long conversations.
FULL = Plan(
    steps=(
        _alone(TALK, 5, stock=48, kefu=1000, seconds=60, rounds=5),
        _alone(ORDERS, 5, stock=32, kefu=200, seconds=60, rounds=5),
        _whole(TALK, 64, 4000, seconds=8, rounds=5),
        _whole(ORDERS, 64, 1500, seconds=8, rounds=5),
        _by_clock(TALK, 10, rounds=5),
        _by_clock(ORDERS, 10, rounds=5),
        _alone(TALK, 50, stock=8, kefu=100, seconds=60, rounds=3),
        _alone(ORDERS, 50, stock=8, kefu=30, seconds=60, rounds=3),
        _alone(TALK, 500, stock=1, kefu=16, seconds=75, rounds=1),
        _alone(ORDERS, 500, stock=1, kefu=8, seconds=75, rounds=1),
    ),
    most_idle=1000,
    epochs=10,  # Rasa's default, 100, takes three quarters of an hour; what a turn costs does not depend on it
    starts=3,
    accepting=_accepting(64, 8, rounds=3),
    nlu={"stock": 3, "kefu": 3},
)
SHORT = Plan(
    steps=(
        _alone(TALK, 5, stock=8, kefu=160, seconds=20, rounds=3, users=8),
        _alone(ORDERS, 5, stock=6, kefu=40, seconds=20, rounds=3, users=8),
        _alone(TALK, 50, stock=0, kefu=16, seconds=20, rounds=3, users=8),
        _whole(TALK, 32, 1000, seconds=3, rounds=1),
        _whole(ORDERS, 32, 1000, seconds=3, rounds=1),
        _by_clock(TALK, 3, rounds=1),
        _by_clock(ORDERS, 3, rounds=1),
    ),
    most_idle=200,
    epochs=4,
    starts=1,
    accepting=_accepting(32, 3, rounds=1),
    nlu={"kefu": 1},
)


def duel(names: Tuple[str, str], rounds: int) -> Tuple[Step, ...]:
    """Return the steps by which two builds of Kefu are compared: the same messages to both, by the gateway.

    HTTP is the way in that outlives every change inside. 9 rounds are the fewest of which the range may leave the
    lowest and the highest out.
    """
    sizes = {TALK: 200, ORDERS: 60}
    return tuple(
        Step(script, 5, dict.fromkeys(names, Way("gateway", 32, conversations)), 60, rounds)
        for script, conversations in sizes.items()
    )
