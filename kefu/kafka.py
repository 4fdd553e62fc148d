"""QUEUE: sends records to Kafka, keyed by conversation, and creates topics, with confluent-kafka.

The gateway sends messages with it, the worker turns' events, answers and dead letters. The worker's consumer is
`kefu.worker.intake.consumer`.
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

ERROR_EVERY_S = 10.0  # each kind of client error is logged at most this often
CONNECTING_S = 2.0  # longest wait for the brokers at the start
# Limits a record; Kafka refuses a larger one. The messages of the inbox are far smaller, but a turn's events may grow.
MAX_RECORD_BYTES = 2_000_000
_PERMANENT = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD)  # errors that sending again can't change
# These two limit the records that the client holds until Kafka acknowledges them. Beyond one of them `send` raises
# QueueUnavailable.
MAX_QUEUED_RECORDS = 100_000
MAX_QUEUED_KBYTES = 256 * 1024
PARTITION_UA = -1  # "unassigned": the partitioner chooses. Source: librdkafka, RD_KAFKA_PARTITION_UA
# Clients notice added partitions within this time; until then a producer uses the old ones and a consumer leaves the
# new ones unread. librdkafka's default is 5 minutes.
METADATA_REFRESH_MS = 10_000
POLL_S = 0.001  # time between polls for acknowledgements, while records wait for one
IDLE_POLL_S = 0.25  # time between polls for errors, while no record waits
Headers = Optional[List[Tuple[str, bytes]]]


def damped_errors(on_fatal: Callable[[str], None] = lambda _: None) -> Dict[str, Any]:
    """Return client settings that log each kind of error at most once in ERROR_EVERY_S.

    While a broker is unavailable librdkafka reports every attempt to reach it, many a second.

    Args:
        on_fatal: called with the name of an error after which the client can't be used any more.
    """
    logged_at: Dict[str, float] = {}

    def on_error(error: KafkaError) -> None:
        if error.fatal():
            on_fatal(error.name())
        now = time.monotonic()
        if now - logged_at.get(error.name(), -ERROR_EVERY_S) >= ERROR_EVERY_S:
            logged_at[error.name()] = now
            logger.warning("kafka client error", extra={"fields": {"kafka_error": error.name()}})

    return {"error_cb": on_error, "log_level": 0}  # librdkafka's own log lines repeat these errors


class EventProducer:
    """An idempotent producer whose acknowledgements can be awaited without blocking the loop.

    Delivery is at least once: after a `QueueUnavailable` the record may still arrive, so a sender that tries again must
    send the same id.

    The event loop itself polls librdkafka for acknowledgements every POLL_S. A waiting thread would compete with the
    loop for the interpreter, and wake it, at every acknowledgement.
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
                # murmur2 as in Java clients, so that every client puts a key into the same partition.
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
        """Fetch the topics' metadata, so that the first record need not wait for it. Never raises."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, partial(self._producer.list_topics, timeout=CONNECTING_S))
        except KafkaException as error:
            logger.warning("kafka can't be reached yet", extra={"fields": {"kafka_error": error.args[0].name()}})

    def _on_fatal(self, name: str) -> None:
        self.failure = name  # makes the probes fail, so that the process is restarted: this producer can't recover

    def send(
        self, topic: str, key: Union[str, bytes], value: bytes, headers: Headers = None, partition: int = PARTITION_UA
    ) -> "asyncio.Future[None]":
        """Queue a record; the future ends when Kafka acknowledged it on all replicas.

        Args:
            topic: one of `kefu.events.TOPICS`, without the prefix.
            key: the conversation, `tenant:user`; bytes are sent unchanged.
            value: the record's value.
            headers: the record's headers; None for no headers.
            partition: the record's partition; by default the key decides.

        Raises:
            QueueUnavailable: raised here when the local queue is full, by the future when Kafka did not acknowledge
                in time.
            RecordRefused: raised by the future when Kafka will never take the record.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        keep_outcome = partial(self._keep_outcome, done, topic)
        try:
            self._producer.produce(
                self._prefix + topic,
                value,
                key.encode() if isinstance(key, str) else key,
                partition,
                on_delivery=keep_outcome,
                headers=headers or [],  # type: ignore[arg-type] # a list is invariant; nothing is added to it
            )
        except BufferError as error:
            metrics.PRODUCE_FAILURES.labels(topic).inc()
            raise QueueUnavailable(f"{topic}: the local queue is full") from error
        except KafkaException as error:
            keep_outcome(error.args[0], None)
        self.waiting += 1
        if self.waiting == 1 or loop is not self._loop:
            self._loop = loop
            self._poll_after(POLL_S)
        return done

    def _keep_outcome(
        self, done: "asyncio.Future[None]", topic: str, error: Optional[KafkaError], record: Optional[Message]
    ) -> None:
        """Keep a record's outcome for `_settle`. librdkafka calls this in a poll, or at the end in `close`'s thread.

        A success without an offset counts as a failure. librdkafka only concludes it from a later record of the same
        producer that was written. The conclusion is wrong if the broker has just become the partition's leader, because
        such a broker accepts any first record. Sending the record again is harmless, because its id is the same.
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
        """Complete the futures of the records whose outcomes `_keep_outcome` has kept."""
        produced: Counter[str] = Counter()
        while self._outcomes:
            done, topic, error = self._outcomes.popleft()
            self.waiting -= 1
            if error is None:
                produced[topic] += 1
            else:
                metrics.PRODUCE_FAILURES.labels(topic).inc()
            if not done.done() and not done.get_loop().is_closed():  # the sender may have given up
                _end(done, topic, error)
        for topic, records in produced.items():
            metrics.PRODUCED.labels(topic).inc(records)

    def close(self, timeout_s: float = 10.0) -> int:
        """Wait for acknowledgements, then stop. Blocks; returns how many records were given up.

        Must be called from another thread than the event loop's, or after the loop has ended.
        """
        try:
            left = self._producer.flush(timeout_s)
        except KafkaException as error:  # after a fatal error; the futures of all records have failed already
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
    """Return the running event loop; None if there is none: an operators' command starts a loop for each batch."""
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
    """Create the missing topics, of all or of `names`. Blocks; returns a map of topic to `created` or `exists`.

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
        except FutureTimeout as error:  # librdkafka may take longer than its own time-out if a broker is lost
            raise QueueUnavailable(f"topic {name}: no answer within {timeout_s:.0f} s") from error
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise QueueUnavailable(f"topic {name}: {error.args[0].name()}") from error
            outcome[name] = "exists"
    return outcome
