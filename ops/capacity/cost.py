"""What a simulated load costs, and a dialogue of it. Prices are input (`prices.json`); the target is 0.003 yuan."""

import math
from dataclasses import dataclass
from typing import Dict

from ops.capacity.curves import DAY_S, Curve, Day, messages
from ops.capacity.inputs import Measured, Prices, Shape
from ops.capacity.simulate import Outcome

KEPT_DAYS = 7.0  # in Redis, and by the busy topics of Kafka; user.query is kept for 3
HEADROOM = 1.5  # on disks
GB = 1e9
BROKER_GB, MASTER_GB = 8.0, 1.0
LEAST_BROKERS, LEAST_MASTERS = 3, 3


@dataclass(frozen=True)
class Bill:
    """Yuan, for the time that was simulated.

    Attributes:
        parts: by what it is for.
        dialogues: that were had.
        per_dialogue: all of it, divided.
        brokers, masters: that the peak needs.
    """

    parts: Dict[str, float]
    dialogues: float
    per_dialogue: float
    target: float
    brokers: int
    masters: int

    @property
    def total(self) -> float:
        """All parts."""
        return math.fsum(self.parts.values())


def bill(outcome: Outcome, curve: Curve, costs: Measured, shape: Shape, prices: Prices, peak: float = 0.0) -> Bill:
    """Price an outcome.

    Args:
        outcome: what was simulated.
        curve: the load that it came from.
        costs: what was measured.
        shape: the installation.
        prices: yuan.
        peak: messages a second that Kafka and Redis are built for, who don't scale by themselves; the curve's if less.
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
    # Twice the data, for the fork that rewrites the append-only file; each master has a replica.
    parts["redis"] = fixed * 2 * (masters * _pod(prices, 1.0, MASTER_GB) + 2 * kept_gb * prices.gb_hour)
    disk_gb = HEADROOM * (shape.replicas * kept * costs.kafka_bytes / GB + 4 * kept_gb)
    parts["disks"] = disk_gb * prices.disk_gb_month * hours / 730
    parts["traffic"] = outcome.came * 2000 / GB * prices.traffic_gb  # 2 kB out a message, with headers
    parts["load balancer"] = hours * prices.load_balancer_hour
    dialogues = outcome.came / curve.turns
    per_dialogue = math.fsum(parts.values()) / dialogues
    return Bill(parts, dialogues, per_dialogue, prices.target_per_dialogue, brokers, masters)


def _pod(prices: Prices, cores: float, gb: float) -> float:
    """Return what a pod costs an hour, with its part of what nodes lose."""
    return (cores * prices.vcpu_hour + gb * prices.gb_hour) / prices.node_share
