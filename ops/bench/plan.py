"""The plans of a full and of a short run of the bench: the steps of each round, and their sizes."""

from dataclasses import dataclass
from typing import Dict, Mapping, Tuple

from ops.bench.scripts import ORDERS, TALK


@dataclass(frozen=True)
class Way:
    """The way in which one system does a step.

    Attributes:
        driver: the way in, see `Job`.
        users: the number of conversations at once.
        conversations: the number of conversations in all; the step's time may end it earlier. For a step by the clock
            both numbers follow from its rate.
    """

    driver: str
    users: int = 0
    conversations: int = 0


@dataclass(frozen=True)
class Step:
    """One scenario, which the systems do one after the other.

    Attributes:
        script: the name of the conversation, see `scripts`.
        turns: the number of turns of a conversation.
        ways: by system; a system that is not in it does not do the step.
        seconds: after this time the step ends; `turns_reached` then says how far its conversations came.
        rounds: the step is done in this many first rounds.
        by_clock: whether messages come by the clock, at a share of the rate that the system reached before.
    """

    script: str
    turns: int
    ways: Mapping[str, Way]
    seconds: float
    rounds: int
    by_clock: bool = False


@dataclass(frozen=True)
class Training:
    """How stock Rasa's model is trained.

    Attributes:
        epochs: the number of epochs of each component that has any.
        phrases: the number of phrases to train on, of each intent that the scripts don't use; None for all.
        learned_policies: whether the policies include TED and UnexpecTED, as Rasa's default does. Without them,
            training, start and each turn cost less.
    """

    epochs: int
    phrases: int | None = None
    learned_policies: bool = True


@dataclass(frozen=True)
class Plan:
    """The sizes of a run.

    Attributes:
        steps: the steps of a round, in order.
        most_idle: limits the customers of a step by the clock.
        training: the training of stock Rasa's model.
        starts: how often the worker is restarted, to measure its start.
        accepting: the step of the gateway alone, after the rounds.
        nlu: how often the NLU of each system is measured by itself. Stock's takes 20 s to load.
    """

    steps: Tuple[Step, ...]
    most_idle: int
    training: Training
    starts: int
    accepting: Step
    nlu: Mapping[str, int]


def _alone(script: str, turns: int, stock: int, kefu: int, seconds: float, rounds: int, users: int = 16) -> Step:
    """Return a step of the process that runs Rasa, alone. Stock has half the users, and fewer conversations."""
    ways: Dict[str, Way] = {"kefu": Way("kafka", min(users * 2, kefu), kefu)}
    if stock:
        ways["stock"] = Way("stock", min(users, stock), stock)
    return Step(script, turns, ways, seconds, rounds)


def _whole(script: str, users: int, conversations: int, seconds: float, rounds: int) -> Step:
    """Return a step of Kefu's whole system. Stock has no such step, because its customers reach its one process."""
    return Step(script, 5, {"kefu": Way("gateway", users, conversations)}, seconds, rounds)


def _by_clock(script: str, seconds: float, rounds: int) -> Step:
    return Step(script, 5, {"stock": Way("stock"), "kefu": Way("gateway")}, seconds, rounds, by_clock=True)


def _accepting(users: int, seconds: float, rounds: int) -> Step:
    return Step(TALK, 5, {"kefu": Way("accept", users, 20_000)}, seconds, rounds)


# Stock's time for a turn grows with the number of turns, so stock gets fewer of the long conversations.
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
    training=Training(epochs=10),  # 100, the default, takes three quarters of an hour for the same CPU a turn
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
    training=Training(epochs=6, phrases=4, learned_policies=False),  # four epochs on all phrases take 269 s of CPU
    starts=1,
    accepting=_accepting(32, 3, rounds=1),
    nlu={"kefu": 1},
)


def duel(names: Tuple[str, str], rounds: int) -> Tuple[Step, ...]:
    """Return the steps by which two builds of Kefu are compared: both get the same messages at their gateways.

    Messages come by HTTP, because that interface is the same in all builds. With fewer than 9 rounds the spread could
    not leave out the lowest and the highest round.
    """
    sizes = {TALK: 200, ORDERS: 60}
    return tuple(
        Step(script, 5, dict.fromkeys(names, Way("gateway", 32, conversations)), 60, rounds)
        for script, conversations in sizes.items()
    )
