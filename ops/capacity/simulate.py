"""Simulates a load on the installation: gateways, Kafka's partitions, workers and action servers, step by step.

In: a curve, measured costs, the installation. Out: figures for each interval, and the sums that `cost` prices.
"""

import math
from collections import defaultdict, deque
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Deque, Dict, List, Tuple

from ops.capacity.curves import Curve
from ops.capacity.group import Group, Partition
from ops.capacity.hpa import external_per_pod, external_value, keda_lag
from ops.capacity.inputs import Kind, Measured, Shape
from ops.capacity.pods import Pod, Pool

USABLE = 0.9  # share of a core that a process can use; beyond it, its queue grows without end
MEASURED_AT = 0.7  # share of the system's capacity at which base_p50_ms and base_p99_ms were measured
SLOW_MS = 600.0  # the alert's limit of latency
# Windows of the Prometheus queries, and the lag below which they return 0. Source: rules/kefu.yaml.
RATE_S, LATE_S, LEAST_LAG = 60.0, 120.0, 30


@dataclass
class Interval:
    """Figures of the `seconds` up to `at_s`. Latencies, in ms, are of the messages answered in this time."""

    at_s: float
    seconds: float
    came: float = 0.0
    answered: float = 0.0
    waiting: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    workers: int = 0
    ready_workers: int = 0
    gateways: int = 0
    actions: int = 0


@dataclass
class Outcome:
    """The result of a simulation."""

    curve: Dict[str, Any]
    intervals: List[Interval] = field(default_factory=list)
    came: float = 0.0
    answered: float = 0.0
    over_ms: float = 0.0
    most_waiting: float = 0.0
    worst_p99_ms: float = 0.0
    longest_wait_ms: float = 0.0
    moved_partitions: int = 0
    pod_hours: Dict[str, float] = field(default_factory=dict)
    most_pods: Dict[str, int] = field(default_factory=dict)
    actions_full_s: float = 0.0

    @property
    def in_time_share(self) -> float:
        """Share of the answers that took no longer than SLOW_MS."""
        return 1 - self.over_ms / self.answered if self.answered else 1.0


class Latencies:
    """Latencies of messages, rounded to three digits."""

    def __init__(self) -> None:
        self._counts: Dict[float, float] = defaultdict(float)

    def add(self, ms: float, count: float) -> None:
        """Count messages."""
        self._counts[float(f"{ms:.3g}")] += count

    def quantile(self, share: float) -> float:
        """Return the latency that this share of the messages stays within; 0 without messages."""
        left = share * sum(self._counts.values())
        for ms in sorted(self._counts):
            left -= self._counts[ms]
            if left <= 0:
                return ms
        return max(self._counts, default=0.0)

    def over(self, ms: float) -> float:
        """Return the number of messages with a longer latency."""
        return math.fsum(count for each, count in self._counts.items() if each > ms)


class Window:
    """Messages of the last `seconds` with their latencies."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: Deque[Tuple[float, float, float]] = deque()

    def add(self, now: float, ms: float, count: float) -> None:
        """Count messages, and drop those older than the window."""
        self._seen.append((now, ms, count))
        while self._seen[0][0] <= now - self._seconds:
            self._seen.popleft()

    @property
    def rate(self) -> float:
        """Messages per second in the window."""
        return math.fsum(count for _, _, count in self._seen) / self._seconds

    def quantile(self, share: float) -> float:
        """Return the latency in ms that this share of the messages stays within."""
        latencies = Latencies()
        for _, ms, count in self._seen:
            latencies.add(ms, count)
        return latencies.quantile(share)


class Simulation:
    """The simulation of one load; call `run`.

    Args:
        curve: the load.
        costs: measured costs.
        shape: the installation.
        first: workers that are ready at the beginning; 0 for as many as the first load needs.
        step_s: step of time.
        every_s: length of an interval of the report.
        seed: seed of the arrivals.
    """

    def __init__(
        self,
        curve: Curve,
        costs: Measured,
        shape: Shape,
        first: int = 0,
        step_s: float = 1.0,
        every_s: float = 60.0,
        seed: int = 1,
    ) -> None:
        self._curve, self._costs, self._shape = curve, costs, shape
        self._step_s, self._every_s = step_s, every_s
        self.rate_a_worker = worker_rate(costs, shape)
        # Latency grows with the load only if the CPU is the limit, not if turns wait for a slow back end.
        self._by_places = self.rate_a_worker < worker_rate(replace(costs, concurrent_ms=0.0), shape)
        usual, there = curve(0.0), curve.connections(0.0)
        cpu = {
            "worker": usual * costs.worker_ms / 1000,
            "gateway": (usual * costs.gateway_ms + there * costs.stream_ms_s) / 1000,
            "actions": usual * costs.actions_ms / 1000,
        }
        at_rest = {name: _at_rest(getattr(shape, name), cores) for name, cores in cpu.items()}
        at_rest["gateway"] = max(at_rest["gateway"], math.ceil(there / shape.connections_a_gateway))
        self.workers = Pool(shape.worker, self._starting(costs.start_s), first or at_rest["worker"])
        self.gateways = Pool(shape.gateway, self._starting(costs.gateway_start_s), at_rest["gateway"])
        self.actions = Pool(shape.actions, self._starting(costs.gateway_start_s), at_rest["actions"])
        self.group = Group(shape.partitions, costs.rebalance_s, max(1.0, usual / curve.turns * curve.dwell_s), seed)
        self._door = Partition()
        self._answered, self._accepted = Window(RATE_S), Window(LATE_S)
        self._leaving: Dict[Pod, float] = {}
        self.outcome = Outcome(asdict(curve))

    def run(self) -> Outcome:
        """Simulate the curve's time; return the outcome."""
        self.group.join(0.0, self.workers.pods, first=True)
        now, interval, latencies = 0.0, Interval(0.0, self._every_s), Latencies()
        while now < self._curve.lasts_s:
            self._tick(now, interval, latencies)
            now += self._step_s
            if now - interval.at_s >= self._every_s - 1e-9:
                self._close(now, interval, latencies)
                interval, latencies = Interval(now, self._every_s), Latencies()
        self._sum_up()
        return self.outcome

    def _tick(self, now: float, interval: Interval, latencies: Latencies) -> None:
        rate, step = self._curve(now), self._step_s
        interval.came += rate * step
        self._accept(now, rate)
        self._settle_group(now)
        self._answer(now, interval, latencies)
        for pod in self.workers.tick(now, step, lambda current: self._by_lag(now, current)):
            self._leaving[pod] = now + self._shape.drain_s
        self.gateways.tick(now, step, lambda current: self._by_connections(now, current))
        self.actions.tick(now, step)
        self.outcome.most_waiting = max(self.outcome.most_waiting, self.group.waiting + self._door.waiting)

    def _accept(self, now: float, rate: float) -> None:
        """Let gateways accept as many messages as their CPU allows; the rest waits (429, 503 and their retries)."""
        self._door.put(now, rate * self._step_s)
        ready, costs = self.gateways.ready(now), self._costs
        streams_s = self._curve.connections(now) * costs.stream_ms_s / 1000 * self._step_s
        room_s = len(ready) * self.gateways.kind.cores * USABLE * self._step_s
        accepted = self._door.take(max(0.0, room_s - streams_s) / (costs.gateway_ms / 1000))
        count = 0.0
        for came, part in accepted:
            self.group.arrive(came, part)
            self._accepted.add(now, (now - came) * 1000, part)
            count += part
        _spread_cpu(ready, min(room_s, count * costs.gateway_ms / 1000 + streams_s))

    def _settle_group(self, now: float) -> None:
        """Add started pods to the group and remove drained ones. A pod counts as ready once it has its partitions."""
        self._leaving = {pod: until for pod, until in self._leaving.items() if until > now}
        started = [pod for pod in self.workers.pods if pod.ready(now + self._costs.rebalance_s)]
        self.group.join(now, [*started, *self._leaving])

    def _answer(self, now: float, interval: Interval, latencies: Latencies) -> None:
        pods, actions = [*self.workers.ready(now), *self._leaving], self.actions.ready(now)
        full = len(actions) * self.actions.kind.cores * USABLE * self._step_s / (self._costs.actions_ms / 1000 or 1e-9)
        # The action servers' capacity is shared evenly by the workers, which wait for them.
        room = min(self.rate_a_worker * self._step_s, full / max(1, len(pods)))
        answered = 0.0
        for pod in pods:
            chunks = self.group.serve(now, pod, room)
            served = sum(count for _, count in chunks)
            pod.busy_s += served * self._costs.worker_ms / 1000
            answered += served
            for came, count in chunks:
                self._count(latencies, (now - came) * 1000, served / room, count)
        _spread_cpu(actions, answered * self._costs.actions_ms / 1000)
        self.outcome.actions_full_s += self._step_s if answered > 0.999 * full else 0.0
        self._answered.add(now, 0.0, answered)
        interval.answered += answered

    def _count(self, latencies: Latencies, waited_ms: float, load: float, count: float) -> None:
        """Count messages at three points of the measured distribution, stretched by the load."""
        stretch = 1.0 if self._by_places else min(5.0, max(0.5, (1 - MEASURED_AT) / max(0.01, 1 - load)))
        for share, ms in ((0.5, self._costs.base_p50_ms), (0.485, self._costs.base_p50_ms * 1.5)):
            latencies.add(waited_ms + ms * stretch, count * share)
        latencies.add(waited_ms + self._costs.base_p99_ms * stretch, count * 0.015)

    def _by_lag(self, now: float, current: int) -> List[int]:
        """Return the workers that the lag asks for: by messages per pod, and by the time to answer them."""
        shape, rate = self._shape, self._answered.rate
        uncommitted = rate * self._costs.commit_s / shape.partitions  # answered messages that still count as lag
        lags = [int(partition.waiting + uncommitted) for partition in self.group.partitions]
        wanted = []
        if shape.lag_threshold:
            wanted.append(external_per_pod(keda_lag(lags, shape.lag_threshold), shape.lag_threshold, current))
        if shape.lag_s:
            lag_s = sum(lags) / max(rate, 0.1) if sum(lags) > LEAST_LAG else 0.0
            wanted.append(external_value(lag_s, shape.lag_s, current, len(self.workers.ready(now))))
        return wanted

    def _by_connections(self, now: float, current: int) -> List[int]:
        """Return the gateways that connections ask for, and those that the wait before the gateways asks for."""
        ready = len(self.gateways.ready(now))
        return [
            external_per_pod(self._curve.connections(now), self._shape.connections_a_gateway, current),
            external_value(self._accepted.quantile(0.99), self._shape.late_ms, current, ready),
        ]

    def _starting(self, start_s: float) -> Any:
        shape = self._shape

        def after(there: int) -> float:
            return start_s + shape.place_s + (shape.node_s if there >= shape.spare_pods else 0.0)

        return after

    def _close(self, now: float, interval: Interval, latencies: Latencies) -> None:
        interval.at_s, interval.waiting = now, self.group.waiting + self._door.waiting
        interval.p50_ms, interval.p99_ms = latencies.quantile(0.5), latencies.quantile(0.99)
        interval.workers, interval.ready_workers = len(self.workers.pods), len(self.workers.ready(now))
        interval.gateways, interval.actions = len(self.gateways.pods), len(self.actions.pods)
        outcome = self.outcome
        outcome.intervals.append(interval)
        outcome.came += interval.came
        outcome.answered += interval.answered
        outcome.over_ms += latencies.over(SLOW_MS)
        outcome.worst_p99_ms = max(outcome.worst_p99_ms, interval.p99_ms)
        outcome.longest_wait_ms = max(outcome.longest_wait_ms, latencies.quantile(1.0))
        for name in ("workers", "gateways", "actions"):
            outcome.most_pods[name] = max(outcome.most_pods.get(name, 0), getattr(interval, name))

    def _sum_up(self) -> None:
        self.outcome.moved_partitions = self.group.moved
        pools = {"workers": self.workers, "gateways": self.gateways, "actions": self.actions}
        self.outcome.pod_hours = {name: pool.pod_seconds / 3600 for name, pool in pools.items()}


def worker_rate(costs: Measured, shape: Shape) -> float:
    """Return the most messages per second that one worker answers, limited by its CPU or its places for turns."""
    by_cpu = USABLE * shape.worker.cores / (costs.worker_ms / 1000)
    by_places = shape.turns_at_once / (costs.concurrent_ms / 1000) if costs.concurrent_ms else math.inf
    return min(by_cpu, by_places)


def _at_rest(kind: Kind, cores: float) -> int:
    """Return the number of pods for a steady load of `cores`."""
    needed = math.ceil(cores / (kind.cores * kind.cpu_percent / 100))
    return min(kind.scaling.high, max(kind.scaling.low, needed))


def _spread_cpu(pods: List[Pod], cpu_s: float) -> None:
    for pod in pods:
        pod.busy_s += cpu_s / len(pods)
