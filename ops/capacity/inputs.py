"""What the simulator is fed with: figures that were measured, prices, and the shape of the installation.

`measured.json` is written by `python -m ops.capacity measure`, `prices.json` by whoever buys; both lie beside this. The
shape is that of the chart's values, which Helm would install.
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
    """Costs of a message and times of a pod. CPU in ms a message, times in s, sizes in bytes a message.

    Attributes:
        concurrent_ms: time that a turn holds one of the worker's places (`KEFU_TURNS_AT_ONCE`), waiting included.
        start_s: from the container's start to its partitions, on nodes that have image and model.
        rebalance_s: how long a partition that moves is served by nobody.
        commit_s: from a message's answer to its offset's commit: what lag shows of a worker that keeps up.
        base_p50_ms, base_p99_ms: from POST to reply at 70 % of what the system can do.
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
    """What the cloud asks, in yuan; a month has 730 hours.

    Attributes:
        reserved_share: what a vCPU costs that is there all the time, beside one that comes and goes.
        node_share: how much of a node the pods can have; the rest is the system's and fragmentation.
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
    """One Deployment. `cpu_percent` is the HPA's target; `cores` the request: more is not to be had on a full node."""

    scaling: Scaling
    cores: float = 1.0
    cpu_percent: int = 60


@dataclass(frozen=True)
class Shape:
    """The installation.

    Attributes:
        partitions: of `user.query`.
        lag_threshold: messages a pod at which KEDA wants one more; 0 leaves them out.
        lag_s: what waits may take that long at the present rate (`lagSeconds`); 0 leaves it out.
        place_s: from the pod's creation to its container's start where a node has room.
        node_s: what a new node takes, for pods beyond `spare_pods`.
        spare_pods: how many pods of each kind the nodes that are there have room for.
        turns_at_once: places for turns in a worker.
        drain_s: from SIGTERM to leaving the group.
        connections_a_gateway: what a gateway shall hold.
        late_ms: by which gateways may be late before there are more of them.
        kafka_cores, redis_cores: of each broker and each master that may be used at peak.
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
    """Read what was measured; raises ValueError naming what is missing or too much."""
    return _read(Measured, json.loads(path.read_text())["figures"])


def prices(path: Path = HERE / "prices.json") -> Prices:
    """Read the prices; raises ValueError naming what is missing or too much."""
    return _read(Prices, json.loads(path.read_text())["yuan"])


def _read(kind: Type[T], found: Dict[str, Any]) -> T:
    wanted = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    wrong = wanted.symmetric_difference(found)
    if wrong:
        raise ValueError(f"{kind.__name__}: missing or unknown: {', '.join(sorted(wrong))}")
    bad = [name for name, value in found.items() if not isinstance(value, (int, float)) or value < 0]
    if bad:
        raise ValueError(f"{kind.__name__}: not a number from 0: {', '.join(sorted(bad))}")
    return kind(**found)


def production(*more: Path, **changes: Any) -> Shape:
    """Return what the chart's production values install.

    Args:
        more: values files besides, as they are given to Helm.
        changes: of any attribute of `Shape`.
    """
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in (PRODUCTION, *more):
        values = _merged(values, yaml.safe_load(path.read_text()) or {})
    return replace(from_values(values), **changes)


def from_values(values: Mapping[str, Any]) -> Shape:
    """Return the shape of merged values of the chart, each component autoscaled as they say."""
    worker, gateway = (values[name]["autoscaling"] for name in ("worker", "gateway"))
    return Shape(
        **{name: _kind(values[name]) for name in ("worker", "gateway", "actions")},
        partitions=values["kafka"]["partitions"],
        lag_threshold=worker["lagMessages"],
        lag_s=worker["lagSeconds"] if worker["prometheus"] else 0.0,
        connections_a_gateway=gateway["connections"],
        late_ms=gateway["loopLateMs"],
    )


def _kind(component: Mapping[str, Any]) -> Kind:
    asked = component["autoscaling"]
    down = Rules((Policy(PERCENT, asked["downPercent"], 60),), window_s=asked["stableSeconds"])
    return Kind(
        Scaling(low=asked["min"], high=asked["max"], down=down),
        cores=cores(component["resources"]["requests"]["cpu"]),
        cpu_percent=asked["cpuPercent"],
    )


def cores(quantity: str) -> float:
    """Return a quantity of CPU (`500m`, `2`) in cores."""
    text = str(quantity)
    return float(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Dict[str, Any]:
    """Return `base` with `over` put on it, as Helm does."""
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        result[key] = _merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result
