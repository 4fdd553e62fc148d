"""The same load on real workers: Kafka, Redis and 1 to 4 workers on this machine, scaled by `ops.capacity.hpa`.

Its measurements (start, rebalance, places) are the simulator's input; its run is compared with the forecast.
"""

import statistics
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Set

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from kefu.codec import encode
from kefu.events import ANSWERS, USER_QUERY, UserSaid, conversation_key
from ops.capacity.curves import Curve
from ops.capacity.hpa import Autoscaler, Scaling, external_per_pod, keda_lag
from ops.capacity.slow import SlowActions
from ops.local.stack import PATIENCE, Stack, free_ports

TENANT = "demo"
TEXT = "我的订单20260001到哪了"
GROUP = "kefu-worker"
TIMEOUT_S = 30.0
GIVE_UP_S = 90.0
SETTLE_S = 4.0  # time for the group to settle after the last worker is ready
USERS = 200


@dataclass
class Second:
    """A sample of the system, `at_s` after the load's beginning."""

    at_s: float
    lag: int
    workers: int


@dataclass
class Seen:
    """The record of a real run. `latencies_s` are from produced to answered, by message id."""

    samples: List[Second] = field(default_factory=list)
    sent: Dict[str, float] = field(default_factory=dict)
    latencies_s: Dict[str, float] = field(default_factory=dict)
    doubled: int = 0
    lasted_s: float = 0.0
    starts_s: List[float] = field(default_factory=list)

    @property
    def most_lag(self) -> int:
        """The greatest lag of all samples."""
        return max(sample.lag for sample in self.samples)


class RealRun:
    """A system whose workers have `places` messages in flight at most, and whose actions take `turn_s` each."""

    def __init__(self, directory: Path, places: int = 4, turn_s: float = 0.4, partitions: int = 8) -> None:
        self._actions = SlowActions(turn_s)
        self.places, self.partitions = places, partitions
        self._apart_s = max(0.2, turn_s / 2)  # interval of messages for a light load, far below one worker's capacity
        overrides = {
            "ACTION_ENDPOINT_URL": self._actions.url,
            # Messages in flight are the limit, because a turn that waits for its action frees its place. A poll brings
            # one message, so that it can't exceed the limit.
            "KEFU_INFLIGHT_MESSAGES": str(places),
            "KEFU_POLL_MESSAGES": "1",
            "KEFU_TOPIC_PARTITIONS": str(partitions),
            "KEFU_IDLE_S": "0",
            **PATIENCE,
        }
        self.stack = Stack(directory, free_ports(), tell=lambda _: None, overrides=overrides)
        self.workers = ["worker"]
        self._ready: Set[str] = {"worker"}
        self._asked: Dict[str, float] = {}

    def start(self) -> None:
        """Start the system with one worker."""
        self.stack.start()
        servers = {"bootstrap.servers": self.stack.settings["KAFKA_BROKERS"]}
        self._producer = Producer({**servers, "acks": "all", "linger.ms": 2, "partitioner": "murmur2_random"})
        self._ids: Dict[str, str] = {}
        self._answers = Consumer({**servers, "group.id": f"look-{uuid.uuid4().hex}", "enable.auto.commit": False})
        self._offsets = Consumer({**servers, "group.id": GROUP, "enable.auto.commit": False})
        places = [TopicPartition(ANSWERS, number) for number in range(self.partitions)]
        for place in places:
            place.offset = self._answers.get_watermark_offsets(place, TIMEOUT_S)[1]
        self._answers.assign(places)

    def stop(self) -> None:
        """Stop the system."""
        for consumer in (self._answers, self._offsets):
            consumer.close()
        self._producer.flush(TIMEOUT_S)
        self.stack.stop()
        self._actions.stop()

    def lag(self) -> List[int]:
        """Return each partition's lag: its end less the committed offset."""
        places = [TopicPartition(USER_QUERY, number) for number in range(self.partitions)]
        lags = []
        for place in self._offsets.committed(places, TIMEOUT_S):
            low, high = self._offsets.get_watermark_offsets(place, TIMEOUT_S)
            lags.append(high - (place.offset if place.offset >= 0 else low))
        return lags

    def add(self) -> str:
        """Start one more worker; return its name without waiting."""
        self.workers.append(self.stack.add_worker())
        return self.workers[-1]

    def remove(self) -> None:
        """Stop the youngest worker by SIGTERM."""
        self.stack.remove(self.workers.pop())

    def worker_rate(self, messages: int, bursts: int = 1) -> float:
        """Return the most messages per second that the workers answer, measured in the middle of the best burst."""
        return max(self._burst_rate(messages) for _ in range(bursts))

    def _burst_rate(self, messages: int) -> float:
        seen = Seen()
        for number in range(messages):
            self._say(seen, f"burst-{number % 61}")
        self._until(lambda: len(seen.latencies_s) == len(seen.sent), seen)
        done = sorted(seen.sent[each] + took for each, took in seen.latencies_s.items())
        first, last = len(done) // 4, len(done) * 3 // 4
        return (last - first) / (done[last] - done[first])

    def join_s(self, count: int = 1) -> Dict[str, float]:
        """Add workers under a light load.

        Returns:
            `start_s`, the mean time of a start, and `rebalance_s`, the longest time that a partition was not served.
        """
        seen, began = Seen(), time.monotonic()
        ready_after: Dict[str, float] = {self.add(): 0.0 for _ in range(count)}
        while not all(ready_after.values()) or time.monotonic() - began < max(ready_after.values()) + SETTLE_S:
            if time.monotonic() - began >= len(seen.sent) * self._apart_s:
                self._say(seen, f"join-{len(seen.sent) % 37}")
            self._hear(seen, 0.2)
            for name in [name for name, after in ready_after.items() if not after and self.stack.ready(name)]:
                ready_after[name] = time.monotonic() - began
        self._until(lambda: len(seen.latencies_s) == len(seen.sent), seen)
        self._ready.update(ready_after)
        usual = statistics.median(seen.latencies_s.values())
        return {
            "start_s": statistics.fmean(ready_after.values()),
            "rebalance_s": max(0.1, max(seen.latencies_s.values()) - usual),
        }

    def usual_join_s(self, times: int) -> Dict[str, float]:
        """Return the median of `times` runs of `join_s`, each with one worker, which is removed again."""
        joins = []
        for _ in range(times):
            joins.append(self.join_s())
            self.remove()
            time.sleep(SETTLE_S)
        return {name: statistics.median(each[name] for each in joins) for name in joins[0]}

    def follow(self, curve: Curve, scaling: Scaling, threshold: int) -> Seen:
        """Send the curve's messages and scale by lag like the autoscaler, until all messages are answered."""
        seen, autoscaler, over = Seen(), Autoscaler(scaling), threading.Event()
        began = time.monotonic()
        beside = [
            threading.Thread(target=self._customers, args=(curve, seen, began, over)),
            threading.Thread(target=self._watch, args=(seen, began, over)),
        ]
        for thread in beside:
            thread.start()
        synced = 0.0
        # Only this thread may start workers: they die with the thread that started them.
        while not over.wait(0.05):
            now = time.monotonic() - began
            if now - synced >= scaling.sync_s:
                synced = now
                self._sync(now, seen, autoscaler, threshold)
        for thread in beside:
            thread.join()
        seen.lasted_s = max(seen.sent[each] + took for each, took in seen.latencies_s.items()) - began
        return seen

    def _customers(self, curve: Curve, seen: Seen, began: float, over: threading.Event) -> None:
        """Send by the clock and note answers; set `over` once all are answered, or GIVE_UP_S after the end."""
        due, number = 0.0, 0
        while True:
            now = time.monotonic() - began
            while due <= min(now, curve.lasts_s):
                self._say(seen, f"u{number % USERS}")
                number += 1
                due += 1 / curve(due)
            self._hear(seen, 0.02)
            if (due > curve.lasts_s and len(seen.latencies_s) == len(seen.sent)) or now > curve.lasts_s + GIVE_UP_S:
                over.set()
                return

    def _watch(self, seen: Seen, began: float, over: threading.Event) -> None:
        """Note when workers become ready. It has its own thread: a starting worker answers the check slowly."""
        while not over.wait(0.1):
            for name in list(self.workers):
                if name not in self._ready and self.stack.ready(name):
                    self._ready.add(name)
                    seen.starts_s.append(time.monotonic() - began - self._asked.get(name, 0.0))

    def _sync(self, now: float, seen: Seen, autoscaler: Autoscaler, threshold: int) -> None:
        lags, current = self.lag(), len(self.workers)
        wanted = autoscaler.decide(now, current, [external_per_pod(keda_lag(lags, threshold), threshold, current)])
        seen.samples.append(Second(now, sum(lags), current))
        while len(self.workers) < wanted:
            self._asked[self.add()] = now
        while len(self.workers) > max(wanted, 1):
            self.remove()

    def _say(self, seen: Seen, user: str) -> None:
        message_id = uuid.uuid4().hex
        said = UserSaid(TENANT, user, message_id, text=TEXT, identified=True)
        seen.sent[message_id] = time.monotonic()
        self._producer.produce(USER_QUERY, encode(said), conversation_key(TENANT, user).encode())
        self._producer.poll(0)

    def _hear(self, seen: Seen, wait_s: float) -> None:
        for record in self._answers.consume(500, wait_s):
            if record.error() is not None:
                continue
            answer = orjson.loads(record.value() or b"")
            message_id = answer["message_id"]
            if message_id in seen.latencies_s:  # an answer may be published again under its id, see decision record 3
                seen.doubled += self._ids[message_id] != answer["id"]
            elif message_id in seen.sent:
                seen.latencies_s[message_id] = time.monotonic() - seen.sent[message_id]
                self._ids[message_id] = answer["id"]

    def _until(self, condition: Callable[[], bool], seen: Seen) -> None:
        end = time.monotonic() + GIVE_UP_S
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError(f"{len(seen.sent) - len(seen.latencies_s)} messages without an answer")
            self._hear(seen, 0.05)
