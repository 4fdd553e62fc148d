"""One Kafka client measured: `python -m ops.bench.clients_each CLIENT BROKERS`; prints JSON.

All three with acks=all, an idempotent producer, no compression, the same linger, records as the
gateway writes them. A step's CPU time is that of the whole process, the client's threads included.
"""

import asyncio
import json
import sys
import time
import uuid
from typing import Any, Callable, Dict, List, Tuple

PARTITIONS = 8
COUNT = 20_000
ALONE = 500  # acknowledged one by one
COMMITS = 300
LINGER_MS = 2
POLL = 64
WAIT_S = 60.0
VALUE = json.dumps(
    {
        "tenant": "demo", "user": "bench-100001", "message_id": "100001-3", "text": "我的订单20270001到哪了？",
        "payload": None, "identified": True, "channel": "rest", "metadata": {}, "sealed": {},
        "id": uuid.uuid4().hex, "ts": 1_790_000_000_000, "traceparent": "", "v": 1, "type": "UserSaid",
    }
).encode()  # fmt: skip
Record = Tuple[bytes, bytes]


class Confluent:
    """confluent-kafka, on librdkafka."""

    def __init__(self, brokers: str, topic: str) -> None:
        import confluent_kafka as client

        servers = {"bootstrap.servers": brokers}
        self._topic, self._partition = topic, client.TopicPartition
        settings = {"acks": "all", "enable.idempotence": True, "linger.ms": LINGER_MS}
        self._producer = client.Producer({**servers, **settings, "queue.buffering.max.messages": COUNT * 2})
        self._consumer = client.Consumer(
            {**servers, "group.id": topic, "auto.offset.reset": "earliest", "enable.auto.commit": False}
        )

    def produce(self, records: List[Record]) -> None:
        """Produce all and wait until all are acknowledged."""
        acknowledged = []
        for key, value in records:
            self._producer.produce(self._topic, value, key, on_delivery=lambda error, _: acknowledged.append(error))
            self._producer.poll(0)
        self._producer.flush(WAIT_S)
        if acknowledged != [None] * len(records):
            raise RuntimeError("not all records were acknowledged")

    def subscribe(self) -> None:
        """Join the group."""
        self._consumer.subscribe([self._topic])

    def poll(self) -> int:
        """Return how many records one poll brought, their values read."""
        first = self._consumer.poll(0.2)
        records = [first, *self._consumer.consume(POLL - 1, 0)] if first is not None else []
        return sum(len(record.value()) > 0 for record in records)

    def commit(self, offset: int) -> None:
        """Commit an offset of the first partition and wait for it."""
        self._consumer.commit(offsets=[self._partition(self._topic, 0, offset)], asynchronous=False)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


class KafkaPython:
    """kafka-python, without C."""

    def __init__(self, brokers: str, topic: str) -> None:
        import kafka as client

        self._topic, self._partition, self._offset = topic, client.TopicPartition, client.OffsetAndMetadata
        self._producer = client.KafkaProducer(
            bootstrap_servers=brokers, acks="all", enable_idempotence=True, linger_ms=LINGER_MS
        )
        self._consumer = client.KafkaConsumer(
            bootstrap_servers=brokers, group_id=topic, auto_offset_reset="earliest", enable_auto_commit=False
        )

    def produce(self, records: List[Record]) -> None:
        """Produce all and wait until all are acknowledged."""
        sent = [self._producer.send(self._topic, value, key) for key, value in records]
        for future in sent:
            future.get(WAIT_S)

    def subscribe(self) -> None:
        """Join the group."""
        self._consumer.subscribe([self._topic])

    def poll(self) -> int:
        """Return how many records one poll brought, their values read."""
        found = self._consumer.poll(timeout_ms=200, max_records=POLL)
        return sum(len(record.value) > 0 for records in found.values() for record in records)

    def commit(self, offset: int) -> None:
        """Commit an offset of the first partition and wait for it."""
        self._consumer.commit({self._partition(self._topic, 0): self._offset(offset, "", -1)})

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()
        self._producer.close()


class AioKafka:
    """aiokafka, partly in C, on an event loop of this thread."""

    def __init__(self, brokers: str, topic: str) -> None:
        import aiokafka as client

        self._topic, self._partition = topic, client.TopicPartition
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._run = self._loop.run_until_complete
        self._run(self._start(client, brokers))

    async def _start(self, client: Any, brokers: str) -> None:
        self._producer = client.AIOKafkaProducer(
            bootstrap_servers=brokers, acks="all", enable_idempotence=True, linger_ms=LINGER_MS
        )
        self._consumer = client.AIOKafkaConsumer(
            bootstrap_servers=brokers, group_id=self._topic, auto_offset_reset="earliest", enable_auto_commit=False
        )
        await self._producer.start()
        await self._consumer.start()

    def produce(self, records: List[Record]) -> None:
        """Produce all and wait until all are acknowledged."""
        self._run(self._produce(records))

    async def _produce(self, records: List[Record]) -> None:
        sent = [await self._producer.send(self._topic, value, key) for key, value in records]
        for future in sent:
            await asyncio.wait_for(future, WAIT_S)

    def subscribe(self) -> None:
        """Join the group."""
        self._consumer.subscribe([self._topic])

    def poll(self) -> int:
        """Return how many records one poll brought, their values read."""
        found = self._run(self._consumer.getmany(timeout_ms=200, max_records=POLL))
        return sum(len(record.value) > 0 for records in found.values() for record in records)

    def commit(self, offset: int) -> None:
        """Commit an offset of the first partition and wait for it."""
        self._run(self._consumer.commit({self._partition(self._topic, 0): offset}))

    def close(self) -> None:
        """Leave the group."""
        self._run(self._consumer.stop())
        self._run(self._producer.stop())


class Awaited(Confluent):
    """confluent-kafka as Kefu has it: acknowledgements come to futures of an event loop; lz4."""

    def __init__(self, brokers: str, topic: str) -> None:
        from kefu.kafka import EventProducer
        from kefu.settings import KafkaSettings

        super().__init__(brokers, topic)
        self._events = EventProducer(KafkaSettings(brokers))
        self._loop = asyncio.new_event_loop()

    def produce(self, records: List[Record]) -> None:
        """Produce all and wait until all are acknowledged."""
        self._loop.run_until_complete(self._produce(records))

    async def _produce(self, records: List[Record]) -> None:
        await asyncio.gather(*(self._events.send(self._topic, key.decode(), value) for key, value in records))

    def close(self) -> None:
        """Leave the group."""
        super().close()
        self._events.close()


CLIENTS = {"confluent-kafka": Confluent, "kefu.kafka": Awaited, "kafka-python": KafkaPython, "aiokafka": AioKafka}


def main() -> None:
    """Measure the client named, print JSON."""
    name, brokers = sys.argv[1:]
    topic = f"clients.{uuid.uuid4().hex[:8]}"
    _create(brokers, topic)
    client = CLIENTS[name](brokers, topic)
    client.produce(_records(POLL))
    found = {
        f"produce and wait, {size} at once": _cost(count, lambda n=count, s=size: _produce(client, n, s))
        for size, count in ((1, ALONE), (8, COUNT // 4), (POLL, COUNT), (COUNT, COUNT))
    }
    # From before it joins: what it fetches ahead counts too.
    found[f"consume, polls of {POLL} at most"] = _cost(2 * COUNT, lambda: _consume(client, 2 * COUNT))
    found["commit and wait"] = _cost(COMMITS, lambda: _commit(client, COMMITS))
    client.close()
    print(json.dumps(found))


def _create(brokers: str, topic: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": brokers})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1)]).values():
        future.result(WAIT_S)


def _records(count: int) -> List[Record]:
    return [(f"demo:bench-{n % 997}".encode(), VALUE) for n in range(count)]


def _produce(client: Any, count: int, at_once: int) -> None:
    records = _records(at_once)
    for _ in range(count // at_once):
        client.produce(records)


def _consume(client: Any, count: int) -> None:
    client.subscribe()
    got, end = 0, time.monotonic() + WAIT_S
    while got < count:
        got += client.poll()
        if time.monotonic() > end:
            raise RuntimeError(f"only {got} records came")


def _commit(client: Any, count: int) -> None:
    for offset in range(1, count + 1):
        client.commit(offset)


def _cost(count: int, work: Callable[[], None]) -> Dict[str, float]:
    """Return what one of `count` cost: CPU in µs, and how many were done in a second."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return {
        "cpu_us": (time.process_time() - used) * 1e6 / count,
        "a_second": count / (time.perf_counter() - began),
    }


if __name__ == "__main__":
    main()
