"""The cost of a simulated load and of one dialogue. Prices are input (`prices.json`); the target is 0.003 yuan each."""

import math
from dataclasses import dataclass
from typing import Dict

from ops.capacity.curves import DAY_S, Curve, Day, messages
from ops.capacity.inputs import Measured, Prices, Shape
from ops.capacity.simulate import Outcome

KEPT_DAYS = 7.0  # retention of Redis and of Kafka's busy topics; user.query is kept for 3 days
HEADROOM = 1.5  # size of disks, as a multiple of the data
GB = 1e9
BROKER_GB, MASTER_GB = 8.0, 1.0
LEAST_BROKERS, LEAST_MASTERS = 3, 3


@dataclass(frozen=True)
class Bill:
    """The cost of the simulated time, in yuan.

    Attributes:
        parts: cost by part of the system.
        dialogues: number of dialogues.
        per_dialogue: total cost divided by the dialogues.
        brokers, masters: Kafka brokers and Redis masters that the peak needs.
    """

    parts: Dict[str, float]
    dialogues: float
    per_dialogue: float
    target: float
    brokers: int
    masters: int

    @property
    def total(self) -> float:
        """Cost of all parts."""
        return math.fsum(self.parts.values())


def bill(outcome: Outcome, curve: Curve, costs: Measured, shape: Shape, prices: Prices, peak: float = 0.0) -> Bill:
    """Price an outcome.

    Args:
        outcome: result of the simulation.
        curve: the simulated load.
        costs: measured costs of a message.
        shape: the installation.
        prices: prices in yuan.
        peak: messages per second that Kafka and Redis are sized for, since they don't scale by themselves; at least
            the curve's peak.
    """
    hours = curve.lasts_s / 3600
    peak = max(peak, max(each.came / each.seconds for each in outcome.intervals))
    a_day = messages(Day("", DAY_S, curve.base))
    brokers = max(LEAST_BROKERS, math.ceil(shape.replicas * peak * costs.kafka_ms / 1000 / shape.kafka_cores))
    masters = max(LEAST_MASTERS, math.ceil(peak * costs.redis_ms / 1000 / shape.redis_cores))
    kept = (KEPT_DAYS - curve.lasts_s / DAY_S) * a_day + outcome.came
    kept_gb = kept * costs.redis_bytes / GB
    memory = {"workers": costs.worker_mb, "gateways": costs.gateway_mb, "actions": costs.actions_mb}
    cores = {"workers": shape.worker.cores, "gateways": shape.gateway.cores, "actions": shape.actions.cores}
    parts = {
        name: pod_hours * _pod(prices, cores[name], memory[name] / 1000)
        for name, pod_hours in outcome.pod_hours.items()
    }
    fixed = prices.reserved_share * hours
    parts["kafka"] = fixed * brokers * _pod(prices, shape.kafka_cores, BROKER_GB)
    # Memory for twice the data: a fork rewrites the append-only file. Each master has a replica.
    parts["redis"] = fixed * 2 * (masters * _pod(prices, 1.0, MASTER_GB) + 2 * kept_gb * prices.gb_hour)
    disk_gb = HEADROOM * (shape.replicas * kept * costs.kafka_bytes / GB + 4 * kept_gb)
    parts["disks"] = disk_gb * prices.disk_gb_month * hours / 730
    parts["traffic"] = outcome.came * 2000 / GB * prices.traffic_gb  # 2 kB out a message, with headers
    parts["load balancer"] = hours * prices.load_balancer_hour
    dialogues = outcome.came / curve.turns
    per_dialogue = math.fsum(parts.values()) / dialogues
    return Bill(parts, dialogues, per_dialogue, prices.target_per_dialogue, brokers, masters)


def _pod(prices: Prices, cores: float, gb: float) -> float:
    """Return the price of a pod per hour, with its share of the node's unusable part."""
    return (cores * prices.vcpu_hour + gb * prices.gb_hour) / prices.node_share
