"""QUEUE: produce to and make topics in Kafka, keyed by conversation.

Used by the gateway (inbox) and the worker (events, answers, dead letters), on confluent-kafka.
The worker's consumer is `kefu.worker.intake.consumer`.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from concurrent.futures import TimeoutError as FutureTimeout
from functools import partial
from typing import Any, Callable, Collection, Deque, Dict, List, Optional, Tuple, Union

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from kefu import metrics
from kefu.errors import QueueUnavailable, RecordRefused
from kefu.events import TOPICS
from kefu.settings import KafkaSettings

logger = logging.getLogger(__name__)

ERROR_EVERY_S = 10.0
CONNECTING_S = 2.0
MAX_RECORD_BYTES = 2_000_000  # an inbox message is bounded far below; tracker events may be large
_PERMANENT = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD)
MAX_QUEUED_RECORDS = 100_000
MAX_QUEUED_KBYTES = 256 * 1024
PARTITION_UA = -1  # "unassigned": the partitioner chooses. Source: librdkafka, RD_KAFKA_PARTITION_UA
# Who learns late of added partitions goes on with the old ones, or leaves the new ones unread. Default: 5 minutes.
METADATA_REFRESH_MS = 10_000
POLL_S = 0.001  # for acknowledgements, while some are awaited
IDLE_POLL_S = 0.25  # for errors, otherwise
Headers = Optional[List[Tuple[str, bytes]]]


def damped_errors(on_fatal: Callable[[str], None] = lambda _: None) -> Dict[str, Any]:
    """Return client settings that log each kind of error at most once in ERROR_EVERY_S.

    `on_fatal` gets the name of an error after which the client is good for nothing.

    While a broker is away librdkafka reports every attempt to reach it, many a second.
    """
    said: Dict[str, float] = {}

    def on_error(error: KafkaError) -> None:
        if error.fatal():
            on_fatal(error.name())
        now = time.monotonic()
        if now - said.get(error.name(), -ERROR_EVERY_S) >= ERROR_EVERY_S:
            said[error.name()] = now
            logger.warning("kafka client error", extra={"fields": {"kafka_error": error.name()}})

    return {"error_cb": on_error, "log_level": 0}  # its own lines say the same


class EventProducer:
    """An idempotent producer whose acknowledgements can be awaited without blocking the loop.

    Delivery is at least once under the record's own id: after a `QueueUnavailable` the record may
    still arrive, so that whoever sends again must send the same id.

    The event loop that sends asks librdkafka every POLL_S what has been acknowledged. A thread that
    waits for it would fight the loop for the interpreter, and wake it, at every acknowledgement.
    """

    def __init__(self, settings: KafkaSettings, timeout_s: float = 30.0) -> None:
        self._prefix = settings.topic_prefix
        self.failure: Optional[str] = None
        self._producer = Producer(
            {
                **settings.client_config(),
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": settings.linger_ms,
                "compression.type": "lz4",
                "message.max.bytes": MAX_RECORD_BYTES,
                "message.timeout.ms": int(timeout_s * 1000),
                "queue.buffering.max.messages": MAX_QUEUED_RECORDS,
                "queue.buffering.max.kbytes": MAX_QUEUED_KBYTES,
                "socket.keepalive.enable": True,
                "reconnect.backoff.max.ms": 1000,
                "topic.metadata.refresh.interval.ms": METADATA_REFRESH_MS,
                # murmur2, as Java clients do, so that every client finds the same partition.
                "partitioner": "murmur2_random",
                **damped_errors(self._on_fatal),
            }
        )
        self._loop = _running_loop()
        self._timer: Optional[asyncio.TimerHandle] = None
        self._outcomes: Deque[Tuple[asyncio.Future[None], str, Optional[KafkaError]]] = deque()
        self.waiting = 0  # records without an outcome
        metrics.PRODUCE_QUEUE.set_function(lambda: self.waiting)
        self._poll_after(IDLE_POLL_S)

    async def connect(self) -> None:
        """Learn where the topics are, which the first record would else wait for. Never raises."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, partial(self._producer.list_topics, timeout=CONNECTING_S))
        except KafkaException as error:
            logger.warning("kafka can't be reached yet", extra={"fields": {"kafka_error": error.args[0].name()}})

    def _on_fatal(self, name: str) -> None:
        self.failure = name  # only a new process mends it: see the probes

    def send(
        self, topic: str, key: Union[str, bytes], value: bytes, headers: Headers = None, partition: int = PARTITION_UA
    ) -> "asyncio.Future[None]":
        """Queue a record; the future ends when Kafka acknowledged it on all replicas.

        Args:
            topic: one of `kefu.events.TOPICS`, without the prefix.
            key: the conversation, `tenant:user`; bytes are sent as they are.
            value: the record as it is sent.
            headers: the record's, none if left out.
            partition: where to put it; left out, the key says.

        Raises:
            QueueUnavailable: from here when the local queue is full, from the future when Kafka
                did not acknowledge in time.
            RecordRefused: from the future, when Kafka never will.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        told = partial(self._told, done, topic)
        try:
            self._producer.produce(
                self._prefix + topic,
                value,
                key.encode() if isinstance(key, str) else key,
                partition,
                on_delivery=told,
                headers=headers or [],  # type: ignore[arg-type] # a list is invariant; nothing is added to it
            )
        except BufferError as error:
            metrics.PRODUCE_FAILURES.labels(topic).inc()
            raise QueueUnavailable(f"{topic}: the local queue is full") from error
        except KafkaException as error:
            told(error.args[0], None)
        self.waiting += 1
        if self.waiting == 1 or loop is not self._loop:
            self._loop = loop
            self._poll_after(POLL_S)
        return done

    def _told(
        self, done: "asyncio.Future[None]", topic: str, error: Optional[KafkaError], record: Optional[Message]
    ) -> None:
        """Note an outcome: librdkafka's callback, inside a poll or, at the end, in `close`'s thread.

        Success without an offset is librdkafka's guess: a later record of the same producer was taken, so
        this one must have been. A broker that has just come to lead a partition takes any first record, and
        then the guess is wrong. Whoever sends again sends the same id, which harms nobody.
        """
        if error is None and record is not None and record.offset() is None:
            error = KafkaError(KafkaError._NO_OFFSET)
        self._outcomes.append((done, topic, error))

    def _poll(self) -> None:
        try:
            self._producer.poll(0)
            self._settle()
        finally:
            self._poll_after(POLL_S if self.waiting else IDLE_POLL_S)

    def _poll_after(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._loop is not None:
            self._timer = self._loop.call_later(delay_s, self._poll)

    def _settle(self) -> None:
        """End the futures of the outcomes noted."""
        produced: Counter[str] = Counter()
        while self._outcomes:
            done, topic, error = self._outcomes.popleft()
            self.waiting -= 1
            if error is None:
                produced[topic] += 1
            else:
                metrics.PRODUCE_FAILURES.labels(topic).inc()
            if not done.done() and not done.get_loop().is_closed():  # whoever waited may have given up
                _end(done, topic, error)
        for topic, records in produced.items():
            metrics.PRODUCED.labels(topic).inc(records)

    def close(self, timeout_s: float = 10.0) -> int:
        """Wait for acknowledgements, then stop. Blocks; returns how many records were given up.

        Called from another thread than the loop's, or when that has ended.
        """
        try:
            left = self._producer.flush(timeout_s)
        except KafkaException as error:  # the client has given up for good, and told each record's sender
            logger.warning("closed without a flush", extra={"fields": {"kafka_error": error.args[0].name()}})
            left = len(self._producer)
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop)
        return left

    def _stop(self) -> None:
        self._settle()
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()


def _running_loop() -> Optional[asyncio.AbstractEventLoop]:
    """Return the loop that this is called in; None in a command, whose loops begin with each thing to send."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _end(done: "asyncio.Future[None]", topic: str, error: Optional[KafkaError]) -> None:
    if error is None:
        done.set_result(None)
    elif error.code() in _PERMANENT:
        done.set_exception(RecordRefused(f"{topic}: {error.name()}"))
    else:
        done.set_exception(QueueUnavailable(f"{topic}: {error.name()}"))


def create_topics(
    settings: KafkaSettings, timeout_s: float = 30.0, names: Optional[Collection[str]] = None
) -> Dict[str, str]:
    """Create the topics that are missing, of all or of `names`. Blocks; returns topic to `created` or `exists`.

    Raises:
        QueueUnavailable: no broker answered in time, or one refused a topic.
    """
    admin = AdminClient({**settings.client_config(), **damped_errors()})
    wanted = [
        NewTopic(
            settings.topic_prefix + name,
            num_partitions=settings.partitions,
            replication_factor=settings.replication,
            config={
                "retention.ms": str(kept_ms),
                "min.insync.replicas": str(max(1, settings.replication - 1)),
                "max.message.bytes": str(MAX_RECORD_BYTES + 100_000),
            },
        )
        for name, kept_ms in TOPICS.items()
        if names is None or name in names
    ]
    outcome = {}
    for name, future in admin.create_topics(wanted, operation_timeout=timeout_s).items():
        try:
            future.result(timeout_s)
            outcome[name] = "created"
        except FutureTimeout as error:  # librdkafka waits longer than it was told to for a broker it lost
            raise QueueUnavailable(f"topic {name}: no answer within {timeout_s:.0f} s") from error
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise QueueUnavailable(f"topic {name}: {error.args[0].name()}") from error
            outcome[name] = "exists"
    return outcome
