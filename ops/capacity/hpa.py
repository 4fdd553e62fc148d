"""The autoscaler's algorithm as in Kubernetes and KEDA. In: metrics and the time. Out: the wanted number of pods.

Source: kubernetes pkg/controller/podautoscaler/{horizontal,replica_calculator}.go (autoscaling/v2 with behavior),
keda pkg/scalers/kafka_scaler.go (GetMetrics). The real run of `ops.capacity.real` uses the same code.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Deque, Iterable, List, Optional, Sequence, Tuple

PODS, PERCENT = "Pods", "Percent"
CPU_INITIALIZATION_S = 300  # --horizontal-pod-autoscaler-cpu-initialization-period


@dataclass(frozen=True)
class Policy:
    """The largest change within `period_s`, as a number (`Pods`) or as a share of the pods (`Percent`)."""

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
    """A HorizontalPodAutoscaler's spec without its metrics. The defaults are the chart's.

    Attributes:
        low: `minReplicas`.
        high: `maxReplicas`; for workers at most the number of partitions.
        sync_s: interval of the controller.
    """

    low: int
    high: int
    up: Rules = Rules((Policy(PERCENT, 100, 15), Policy(PODS, 2, 15)))
    down: Rules = Rules((Policy(PERCENT, 10, 60),), window_s=300)
    tolerance: float = 0.1
    sync_s: int = 15


@dataclass
class Autoscaler:
    """The controller's state for one HorizontalPodAutoscaler: recommendations and changes, with their times."""

    scaling: Scaling
    _recommendations: Deque[Tuple[float, int]] = field(default_factory=deque)
    _added: Deque[Tuple[float, int]] = field(default_factory=deque)
    _removed: Deque[Tuple[float, int]] = field(default_factory=deque)

    def decide(self, now: float, current: int, proposals: Iterable[int]) -> int:
        """Return the wanted number of pods. `proposals` has one for each metric; the highest counts."""
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
        """Return the proposal, bounded by both windows' recommendations (stabilizeRecommendationWithBehaviors)."""
        up_since, down_since = now - self.scaling.up.window_s, now - self.scaling.down.window_s
        least = min([proposed, *(pods for at, pods in self._recommendations if at > up_since)])
        most = max([proposed, *(pods for at, pods in self._recommendations if at > down_since)])
        while self._recommendations and self._recommendations[0][0] < min(up_since, down_since):
            self._recommendations.popleft()
        self._recommendations.append((now, proposed))
        return min(max(current, least), most)

    def _limited(self, now: float, current: int, wanted: int) -> int:
        """Return the wanted number, bounded by policies and limits (convertDesiredReplicasWithBehaviorRate)."""
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
        """Return the number of pods at the beginning of the period."""
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
        value: value of the metric, for all pods together.
        target: target value.
        current: number of pods.
        ready: number of ready pods.
        tolerance: deviation of value / target from 1 that changes nothing.
    """
    ratio = value / target
    return current if abs(1 - ratio) <= tolerance else math.ceil(ratio * ready)


def keda_lag(lags: Sequence[int], threshold: int, partitions_with_lag_only: bool = False) -> int:
    """Return the metric of KEDA's Kafka scaler: the total lag, bounded to one pod per partition.

    Args:
        lags: lag of each partition, its end less the committed offset.
        threshold: `lagThreshold`, in messages per pod.
        partitions_with_lag_only: `limitToPartitionsWithLag`.
    """
    total = sum(lags)
    bound = sum(lag > 0 for lag in lags) if partitions_with_lag_only else len(lags)
    return bound * threshold if total // threshold > bound else total


@dataclass(frozen=True)
class PodUse:
    """A pod as the controller sees it. `cores` is None while the metrics server has no figure for it."""

    ready: bool
    age_s: float
    cores: Optional[float]


def cpu_utilization(
    pods: Sequence[PodUse], request_cores: float, target_percent: int, current: int, tolerance: float = 0.1
) -> int:
    """Return the pods that a Resource metric `cpu` of type Utilization asks for (GetResourceReplicas).

    When scaling up, pods that are not ready or have no figure count as idle. When scaling down, pods without a figure
    count as fully used.
    """
    seen = [pod for pod in pods if pod.cores is not None and _counts(pod)]
    starting = sum(not _counts(pod) for pod in pods)
    unseen = len(pods) - len(seen) - starting
    if not seen:
        return current  # the controller reports an error and changes nothing
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
    """Return whether the pod's CPU counts: it is ready, or too old to be starting."""
    return pod.ready or pod.age_s > CPU_INITIALIZATION_S


def _ratio(used: float, requested: float, target_percent: int) -> float:
    return int(used * 100 / requested) / target_percent  # the controller uses whole percents
