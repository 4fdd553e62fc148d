"""Plans the faults of a chaos round: their kinds, in fixed proportions, and their order, at random by a seed.

In: number of kills, seed, the system's form. Out: a list of `Fault`; the same input gives the same list.
"""

import random
from dataclasses import dataclass
from typing import Dict, List

from ops.chaos.doors import STYLES
from ops.chaos.system import CLUSTER, SENTINEL, SINGLE

WORKER = "worker killed with -9"
FREEZE = "worker frozen past its session, then thawed"
REBALANCE = "rebalance: a worker joins or leaves"
GATEWAY = "gateway killed with -9"
ACTIONS_KILL = "action server killed with -9"
CUT_REDIS = "connections to Redis troubled"
CUT_GATEWAY = "connections gateway-Redis troubled"
CUT_ACTIONS = "connections worker-actions troubled"
BROKER = "Kafka broker killed with -9"
MASTER = "Redis master killed with -9"
ISOLATE = "Redis master cut off or frozen for seconds"

_MANY = {WORKER: 120, FREEZE: 20, REBALANCE: 60, GATEWAY: 280, ACTIONS_KILL: 120, CUT_ACTIONS: 100}
# Faults of each kind per thousand, by form.
SHARES: Dict[str, Dict[str, int]] = {
    SENTINEL: {**_MANY, CUT_REDIS: 220, BROKER: 40, MASTER: 20, ISOLATE: 20},
    CLUSTER: {**_MANY, CUT_REDIS: 220, BROKER: 40, MASTER: 20, ISOLATE: 20},
    SINGLE: {**_MANY, WORKER: 160, FREEZE: 0, REBALANCE: 80, GATEWAY: 200, CUT_REDIS: 160, CUT_GATEWAY: 80,
             BROKER: 40, MASTER: 60},
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """One planned fault.

    Attributes:
        kind: one of the kinds above.
        pick: random number that selects the target among the ready ones.
        down_s: seconds until the target is restarted, or the fault ends.
        gap_s: seconds until the next fault.
        style: for connections, the style of the door, see `doors`.
    """

    kind: str
    pick: int
    down_s: float
    gap_s: float
    style: str = ""


# Shortest and longest `down_s` of each kind. A frozen worker loses its session after 10 s.
DOWN_S = {
    FREEZE: (11.0, 15.0),
    GATEWAY: (0.0, 2.0),
    ACTIONS_KILL: (0.0, 5.0),
    BROKER: (0.0, 4.0),
    MASTER: (0.0, 5.0),
    ISOLATE: (2.5, 5.0),
    CUT_REDIS: (0.1, 1.2),
    CUT_GATEWAY: (0.1, 1.2),
    CUT_ACTIONS: (0.1, 1.2),
}
GAP_S = (0.1, 1.2)  # shortest and longest time between two faults


def plan(kills: int, seed: str, form: str) -> List[Fault]:
    """Return `kills` faults in random order. Each kind has its share, as far as whole numbers allow."""
    chance = random.Random(seed)  # noqa: S311 - it must be repeatable
    kinds: List[str] = []
    for kind, share in SHARES[form].items():
        exact = share * kills / sum(SHARES[form].values())
        kinds += [kind] * (int(exact) + (chance.random() < exact % 1))
    while len(kinds) < kills:
        kinds.append(GATEWAY)
    chance.shuffle(kinds)
    return [_fault(kind, chance) for kind in kinds[:kills]]


def _fault(kind: str, chance: random.Random) -> Fault:
    down_s = round(chance.uniform(*DOWN_S.get(kind, (0.0, 0.0))), 2)
    style = chance.choice(STYLES) if kind in (CUT_REDIS, CUT_GATEWAY, CUT_ACTIONS) else ""
    return Fault(kind, chance.randrange(1000), down_s, round(chance.uniform(*GAP_S), 2), style)
