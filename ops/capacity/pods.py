"""Pods of one Deployment over time: created, ready, removed. Each tick asks the autoscaler's algorithm."""

import itertools
from dataclasses import dataclass, field
from typing import Callable, List, Optional

from ops.capacity.hpa import Autoscaler, PodUse, cpu_utilization
from ops.capacity.inputs import Kind

METRICS_S = 15.0  # the metrics server's resolution: a pod's CPU is the mean over this time


@dataclass(eq=False)
class Pod:
    """One pod. `busy_s` is its CPU time since the metrics server's last sample."""

    number: int
    created: float
    ready_at: float
    cores: Optional[float] = None
    busy_s: float = 0.0
    partitions: List[int] = field(default_factory=list)

    def ready(self, now: float) -> bool:
        """Return whether the pod takes work."""
        return now >= self.ready_at


class Pool:
    """The pods of a Deployment under a HorizontalPodAutoscaler.

    Args:
        kind: requests and autoscaler of the Deployment.
        start_s: returns the seconds from a pod's creation to ready, given the number of existing pods.
        first: pods that are ready at the beginning.
    """

    def __init__(self, kind: Kind, start_s: Callable[[int], float], first: int) -> None:
        self.kind = kind
        self.start_s = start_s
        self._autoscaler = Autoscaler(kind.scaling)
        self._numbers = itertools.count()
        self._sampled = self._synced = 0.0
        self.pods = [Pod(next(self._numbers), 0.0, 0.0) for _ in range(first)]
        self.pod_seconds = 0.0

    def ready(self, now: float) -> List[Pod]:
        """Return the pods that take work."""
        return [pod for pod in self.pods if pod.ready(now)]

    def tick(self, now: float, step_s: float, further: Callable[[int], List[int]] = lambda _: []) -> List[Pod]:
        """Advance the time; return the pods that are removed now.

        Args:
            now: the time, in s.
            step_s: time since the last tick, in s.
            further: returns the pods that metrics other than CPU ask for, given the number of pods.
        """
        self.pod_seconds += len(self.pods) * step_s
        if now - self._sampled >= METRICS_S:
            self._sample(now)
        if now - self._synced < self.kind.scaling.sync_s:
            return []
        self._synced = now
        current = len(self.pods)
        uses = [PodUse(pod.ready(now), now - pod.created, pod.cores) for pod in self.pods]
        proposals = [cpu_utilization(uses, self.kind.cores, self.kind.cpu_percent, current), *further(current)]
        return self._scale(now, self._autoscaler.decide(now, current, proposals))

    def _sample(self, now: float) -> None:
        for pod in self.pods:
            # A pod that was not ready for the whole interval has no figure yet.
            pod.cores = pod.busy_s / (now - self._sampled) if pod.ready_at <= self._sampled else None
            pod.busy_s = 0.0
        self._sampled = now

    def _scale(self, now: float, wanted: int) -> List[Pod]:
        while len(self.pods) < wanted:
            self.pods.append(Pod(next(self._numbers), now, now + self.start_s(len(self.pods))))
        if len(self.pods) == wanted:
            return []
        # As a ReplicaSet does: pods that are not ready first, then those cheapest to delete, here the least busy.
        order = sorted(self.pods, key=lambda pod: (pod.ready(now), pod.busy_s, -pod.number))
        removed = order[: len(self.pods) - wanted]
        self.pods = [pod for pod in self.pods if pod not in removed]
        return removed
