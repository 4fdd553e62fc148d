"""The autoscaler's algorithm as Kubernetes and KEDA have it: metrics in, wanted pods out. Knows no clock of its own.

Source: kubernetes pkg/controller/podautoscaler/{horizontal,replica_calculator}.go (autoscaling/v2 with behavior),
keda pkg/scalers/kafka_scaler.go (GetMetrics). The real run of `ops.capacity.real` scales by the same code.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Deque, Iterable, List, Optional, Sequence, Tuple

PODS, PERCENT = "Pods", "Percent"
CPU_INITIALIZATION_S = 300  # --horizontal-pod-autoscaler-cpu-initialization-period


@dataclass(frozen=True)
class Policy:
    """How many pods (`Pods`) or how much of what there is (`Percent`) may change within `period_s`."""

    kind: str
    value: int
    period_s: int


@dataclass(frozen=True)
class Rules:
    """One direction of `behavior`. `window_s` is the stabilization; `select` is Max, Min or Disabled."""

    policies: Tuple[Policy, ...]
    window_s: int = 0
    select: str = "Max"


@dataclass(frozen=True)
class Scaling:
    """A HorizontalPodAutoscaler's spec, less its metrics. Defaults: the chart's.

    Attributes:
        low: `minReplicas`.
        high: `maxReplicas`; of workers no more than there are partitions.
        sync_s: how often the controller looks.
    """

    low: int
    high: int
    up: Rules = Rules((Policy(PERCENT, 100, 15), Policy(PODS, 2, 15)))
    down: Rules = Rules((Policy(PERCENT, 10, 60),), window_s=300)
    tolerance: float = 0.1
    sync_s: int = 15


@dataclass
class Autoscaler:
    """What the controller remembers of one HorizontalPodAutoscaler: recommendations and changes, with their times."""

    scaling: Scaling
    _said: Deque[Tuple[float, int]] = field(default_factory=deque)
    _added: Deque[Tuple[float, int]] = field(default_factory=deque)
    _removed: Deque[Tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, current: int, proposals: Iterable[int]) -> int:
        """Return how many pods there shall be. `proposals`: one for each metric, the highest counts."""
        scaling = self.scaling
        if current > scaling.high:
            wanted = scaling.high
        elif current < scaling.low:
            wanted = scaling.low
        else:
            wanted = self._limited(now, current, self._stable(now, current, max(proposals)))
        if wanted > current:
            self._added.append((now, wanted - current))
        elif wanted < current:
            self._removed.append((now, current - wanted))
        return wanted

    def _stable(self, now: float, current: int, proposed: int) -> int:
        """Return the proposal within what was recommended in both windows (stabilizeRecommendationWithBehaviors)."""
        up_since, down_since = now - self.scaling.up.window_s, now - self.scaling.down.window_s
        least = min([proposed, *(said for at, said in self._said if at > up_since)])
        most = max([proposed, *(said for at, said in self._said if at > down_since)])
        while self._said and self._said[0][0] < min(up_since, down_since):
            self._said.popleft()
        self._said.append((now, proposed))
        return min(max(current, least), most)

    def _limited(self, now: float, current: int, wanted: int) -> int:
        """Return what the policies and the bounds leave of it (convertDesiredReplicasWithBehaviorRate)."""
        if wanted > current:
            return min(wanted, self.scaling.high, max(current, self._up_limit(now, current)))
        if wanted < current:
            return max(wanted, self.scaling.low, min(current, self._down_limit(now, current)))
        return wanted

    def _up_limit(self, now: float, current: int) -> int:
        rules, limits = self.scaling.up, []
        for policy in rules.policies:
            start = self._at_start(now, current, policy.period_s)
            grown = start + policy.value if policy.kind == PODS else math.ceil(start * (1 + policy.value / 100))
            limits.append(grown)
        return _select(rules.select, limits, current, max, min)

    def _down_limit(self, now: float, current: int) -> int:
        rules, limits = self.scaling.down, []
        for policy in rules.policies:
            start = self._at_start(now, current, policy.period_s)
            left = start - policy.value if policy.kind == PODS else int(start * (1 - policy.value / 100))
            limits.append(left)
        return _select(rules.select, limits, current, min, max)

    def _at_start(self, now: float, current: int, period_s: int) -> int:
        """Return how many pods there were at the period's beginning."""
        since = now - period_s
        added = sum(count for at, count in self._added if at > since)
        removed = sum(count for at, count in self._removed if at > since)
        return current - added + removed


def _select(select: str, limits: List[int], current: int, greatest: object, least: object) -> int:
    if select == "Disabled":
        return current
    return (least if select == "Min" else greatest)(limits)  # type: ignore[operator]


def external_per_pod(total: float, target: float, current: int, tolerance: float = 0.1) -> int:
    """Return the pods that an external metric of type AverageValue asks for (GetExternalPerPodMetricReplicas)."""
    if current and abs(1 - total / (target * current)) <= tolerance:
        return current
    return math.ceil(total / target)


def external_value(value: float, target: float, current: int, ready: int, tolerance: float = 0.1) -> int:
    """Return the pods that an external metric of type Value asks for (GetExternalMetricReplicas).

    Args:
        value: the metric, of all pods.
        target: what it shall be.
        current: pods that there are.
        ready: those of them that are.
        tolerance: of the ratio of both.
    """
    ratio = value / target
    return current if abs(1 - ratio) <= tolerance else math.ceil(ratio * ready)


def keda_lag(lags: Sequence[int], threshold: int, partitions_with_lag_only: bool = False) -> int:
    """Return the metric of KEDA's Kafka scaler: the lag of all partitions, no more than they have use for pods.

    Args:
        lags: of each partition, end less committed offset.
        threshold: `lagThreshold`, in messages a pod.
        partitions_with_lag_only: `limitToPartitionsWithLag`.
    """
    total = sum(lags)
    bound = sum(lag > 0 for lag in lags) if partitions_with_lag_only else len(lags)
    return bound * threshold if total // threshold > bound else total


@dataclass(frozen=True)
class PodUse:
    """What the controller knows of a pod. `cores` is None while the metrics server has nothing of it."""

    ready: bool
    age_s: float
    cores: Optional[float]


def cpu_utilization(
    pods: Sequence[PodUse], request_cores: float, target_percent: int, current: int, tolerance: float = 0.1
) -> int:
    """Return the pods that a Resource metric `cpu` of type Utilization asks for (GetResourceReplicas).

    Pods that are not ready yet count as idle when more are wanted; those without a figure count as idle then, and as
    fully used when fewer are.
    """
    seen = [pod for pod in pods if pod.cores is not None and _counts(pod)]
    starting = sum(not _counts(pod) for pod in pods)
    unseen = len(pods) - len(seen) - starting
    if not seen:
        return current  # the controller takes an error and does nothing
    used = sum(pod.cores or 0.0 for pod in seen)
    ratio = _ratio(used, len(seen) * request_cores, target_percent)
    if not (starting and ratio > 1) and not unseen:
        return current if abs(1 - ratio) <= tolerance else math.ceil(ratio * len(seen))
    counted = len(seen) + unseen + (starting if ratio > 1 else 0)
    again = _ratio(used + (unseen * request_cores if ratio < 1 else 0), counted * request_cores, target_percent)
    if abs(1 - again) <= tolerance or (ratio < 1) != (again < 1):
        return current
    wanted = math.ceil(again * counted)
    turned = (again < 1 and wanted > current) or (again > 1 and wanted < current)
    return current if turned else wanted


def _counts(pod: PodUse) -> bool:
    """Return whether the pod's CPU says something: it is ready, or old enough not to be starting."""
    return pod.ready or pod.age_s > CPU_INITIALIZATION_S


def _ratio(used: float, requested: float, target_percent: int) -> float:
    return int(used * 100 / requested) / target_percent  # the controller reckons in whole percents
