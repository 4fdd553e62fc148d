"""The same load against real workers: Kafka, Redis and 1 to 4 workers on this machine, scaled by `ops.capacity.hpa`.

What it measures feeds the simulator (start, rebalance, places); what it then sees is what that has to foretell.
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
SETTLE_S = 4.0  # after the last one is ready, for the group to come to rest
USERS = 200


@dataclass
class Second:
    """What one look at the system saw, `at_s` after the load's beginning."""

    at_s: float
    lag: int
    workers: int


@dataclass
class Seen:
    """A load that was really run. `latencies_s`: from produced to answered, by message id."""

    looks: List[Second] = field(default_factory=list)
    sent: Dict[str, float] = field(default_factory=dict)
    latencies_s: Dict[str, float] = field(default_factory=dict)
    doubled: int = 0
    lasted_s: float = 0.0
    starts_s: List[float] = field(default_factory=list)

    @property
    def most_lag(self) -> int:
        """The greatest lag that was seen."""
        return max(look.lag for look in self.looks)


class RealRun:
    """A system whose workers have `places` for messages in flight, and whose calls of actions take `turn_s` each."""

    def __init__(self, directory: Path, places: int = 4, turn_s: float = 0.4, partitions: int = 8) -> None:
        self._actions = SlowActions(turn_s)
        self.places, self.partitions = places, partitions
        self._apart_s = max(0.2, turn_s / 2)  # of messages that are only a little load: far less than one worker can do
        overrides = {
            "ACTION_ENDPOINT_URL": self._actions.url,
            # A turn that waits for its action lends its place, so that messages in flight are the limit; one a poll, or
            # a poll would bring more of them.
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
        """Start all of it, with one worker."""
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
        """Stop all of it."""
        for consumer in (self._answers, self._offsets):
            consumer.close()
        self._producer.flush(TIMEOUT_S)
        self.stack.stop()
        self._actions.stop()

    def lag(self) -> List[int]:
        """Return each partition's lag: end less committed."""
        places = [TopicPartition(USER_QUERY, number) for number in range(self.partitions)]
        lags = []
        for place in self._offsets.committed(places, TIMEOUT_S):
            low, high = self._offsets.get_watermark_offsets(place, TIMEOUT_S)
            lags.append(high - (place.offset if place.offset >= 0 else low))
        return lags

    def add(self) -> str:
        """Start one more worker; returns its name at once."""
        self.workers.append(self.stack.add_worker())
        return self.workers[-1]

    def remove(self) -> None:
        """Stop the youngest worker in order."""
        self.stack.remove(self.workers.pop())

    def worker_rate(self, messages: int, bursts: int = 1) -> float:
        """Return how many messages a second the workers that are there answer at most: in the best burst's middle."""
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
        """Add workers under a little load.

        Returns:
            `start_s`, the mean of them, and `rebalance_s` for which a partition stood still.
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
        """Return the median of `join_s` over so many, each of one worker that leaves again."""
        joins = []
        for _ in range(times):
            joins.append(self.join_s())
            self.remove()
            time.sleep(SETTLE_S)
        return {name: statistics.median(each[name] for each in joins) for name in joins[0]}

    def follow(self, curve: Curve, scaling: Scaling, threshold: int) -> Seen:
        """Send what the curve says, scale by lag as the autoscaler would, until all is answered."""
        seen, autoscaler, over = Seen(), Autoscaler(scaling), threading.Event()
        began = time.monotonic()
        beside = [
            threading.Thread(target=self._customers, args=(curve, seen, began, over)),
            threading.Thread(target=self._watch, args=(seen, began, over)),
        ]
        for thread in beside:
            thread.start()
        synced = 0.0
        # Workers die with the thread that started them: it has to be this one.
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
        """Send by the clock and note answers; sets `over` once all is answered, or nothing more is to be hoped."""
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
        """Note who is ready: a worker that is starting takes its time to answer."""
        while not over.wait(0.1):
            for name in list(self.workers):
                if name not in self._ready and self.stack.ready(name):
                    self._ready.add(name)
                    seen.starts_s.append(time.monotonic() - began - self._asked.get(name, 0.0))

    def _sync(self, now: float, seen: Seen, autoscaler: Autoscaler, threshold: int) -> None:
        lags, current = self.lag(), len(self.workers)
        wanted = autoscaler.decide(now, current, [external_per_pod(keda_lag(lags, threshold), threshold, current)])
        seen.looks.append(Second(now, sum(lags), current))
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
            answer = orjson.loads(record.value())
            message_id = answer["message_id"]
            if message_id in seen.latencies_s:  # published again under its id is as it may be, see record 3
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
