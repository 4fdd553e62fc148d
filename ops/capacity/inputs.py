"""The simulator's input: measured figures, prices, and the shape of the installation.

`python -m ops.capacity measure` writes `measured.json`; people write `prices.json`. Both are in this directory. The
shape comes from the chart's values, as Helm would install them.
"""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Dict, Mapping, Type, TypeVar

import yaml

from ops.capacity.hpa import PERCENT, Policy, Rules, Scaling

HERE = Path(__file__).parent
CHART = HERE.parent / "charts" / "kefu"
PRODUCTION = CHART / "values" / "production.yaml"
T = TypeVar("T")


@dataclass(frozen=True)
class Measured:
    """Costs of a message and times of a pod. CPU in ms per message, times in s, sizes in bytes per message.

    Attributes:
        concurrent_ms: time that a turn holds one of the worker's places (`KEFU_TURNS_AT_ONCE`), waiting included.
        start_s: from the container's start to its partitions, on nodes that have image and model.
        rebalance_s: time that a moving partition is not served.
        commit_s: from a message's answer to its offset's commit; a worker that keeps up has the lag of this time.
        base_p50_ms, base_p99_ms: from POST to reply, at 70 % of the system's capacity.
    """

    worker_ms: float
    gateway_ms: float
    actions_ms: float
    kafka_ms: float
    redis_ms: float
    stream_ms_s: float
    concurrent_ms: float
    start_s: float
    gateway_start_s: float
    rebalance_s: float
    commit_s: float
    base_p50_ms: float
    base_p99_ms: float
    kafka_bytes: float
    redis_bytes: float
    worker_mb: float
    gateway_mb: float
    actions_mb: float


@dataclass(frozen=True)
class Prices:
    """The cloud's prices in yuan; a month has 730 hours.

    Attributes:
        reserved_share: price of a permanent vCPU relative to one on demand.
        node_share: share of a node that pods can use; the system and fragmentation take the rest.
    """

    vcpu_hour: float
    gb_hour: float
    disk_gb_month: float
    traffic_gb: float
    load_balancer_hour: float
    reserved_share: float
    node_share: float
    target_per_dialogue: float


@dataclass(frozen=True)
class Kind:
    """One Deployment. `cpu_percent` is the HPA's target. `cores` is the request, all that a pod gets on a full node."""

    scaling: Scaling
    cores: float = 1.0
    cpu_percent: int = 60


@dataclass(frozen=True)
class Shape:
    """The installation.

    Attributes:
        partitions: partitions of `user.query`.
        lag_threshold: waiting messages per pod from which KEDA adds one; 0 switches this off.
        lag_s: time to answer the waiting messages from which workers are added (`lagSeconds`); 0 switches this off.
        place_s: from the pod's creation to its container's start, on a node with room.
        node_s: time to add a node, for pods beyond `spare_pods`.
        spare_pods: pods of each kind for which the existing nodes have room.
        turns_at_once: places for turns in a worker.
        drain_s: from SIGTERM to leaving the group.
        connections_a_gateway: target of open connections per gateway.
        late_ms: delay of gateways from which more are added.
        kafka_cores, redis_cores: cores of each broker and each master that the peak may use.
    """

    worker: Kind
    gateway: Kind
    actions: Kind
    partitions: int
    lag_threshold: int
    lag_s: float
    connections_a_gateway: int
    late_ms: float
    place_s: float = 2.0
    node_s: float = 90.0
    spare_pods: int = 10_000
    turns_at_once: int = 64
    drain_s: float = 2.0
    kafka_cores: float = 4.0
    redis_cores: float = 0.6
    replicas: int = 3


def measured(path: Path = HERE / "measured.json") -> Measured:
    """Read the measured figures. Raises ValueError, which names missing or unknown ones."""
    return _read(Measured, json.loads(path.read_text())["figures"])


def prices(path: Path = HERE / "prices.json") -> Prices:
    """Read the prices. Raises ValueError, which names missing or unknown ones."""
    return _read(Prices, json.loads(path.read_text())["yuan"])


def _read(kind: Type[T], figures: Dict[str, Any]) -> T:
    wanted = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    wrong = wanted.symmetric_difference(figures)
    if wrong:
        raise ValueError(f"{kind.__name__}: missing or unknown: {', '.join(sorted(wrong))}")
    bad = [name for name, value in figures.items() if not isinstance(value, (int, float)) or value < 0]
    if bad:
        raise ValueError(f"{kind.__name__}: not a number from 0: {', '.join(sorted(bad))}")
    return kind(**figures)


def production(*more: Path, **changes: Any) -> Shape:
    """Return the shape that the chart's production values install.

    Args:
        more: further values files, as given to Helm.
        changes: changes of any attribute of `Shape`.
    """
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in (PRODUCTION, *more):
        values = _merged(values, yaml.safe_load(path.read_text()) or {})
    return replace(from_values(values), **changes)


def from_values(values: Mapping[str, Any]) -> Shape:
    """Return the shape that merged values of the chart describe."""
    worker, gateway = (values[name]["autoscaling"] for name in ("worker", "gateway"))
    return Shape(
        worker=_kind(values["worker"]),
        gateway=_kind(values["gateway"]),
        actions=_kind(values["actions"]),
        partitions=values["kafka"]["partitions"],
        lag_threshold=worker["lagMessages"],
        lag_s=worker["lagSeconds"] if worker["prometheus"] else 0.0,
        connections_a_gateway=gateway["connections"],
        late_ms=gateway["loopLateMs"],
    )


def _kind(component: Mapping[str, Any]) -> Kind:
    autoscaling = component["autoscaling"]
    down = Rules((Policy(PERCENT, autoscaling["downPercent"], 60),), window_s=autoscaling["stableSeconds"])
    return Kind(
        Scaling(low=autoscaling["min"], high=autoscaling["max"], down=down),
        cores=cores(component["resources"]["requests"]["cpu"]),
        cpu_percent=autoscaling["cpuPercent"],
    )


def cores(quantity: str) -> float:
    """Return a quantity of CPU (`500m`, `2`) in cores."""
    text = str(quantity)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Dict[str, Any]:
    """Return `base` overridden by `over`, as Helm merges values."""
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        result[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result
