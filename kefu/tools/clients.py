"""kafka-python's clients, for operators' commands and checkers: how they connect, and how they ask again.

An independent client in Python counts what confluent-kafka wrote (record 12). Its errors say which of them pass.
"""

import logging
import time
from typing import Any, Callable, Dict, Type, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer
from kafka.errors import KafkaError, KafkaTimeoutError

from kefu.errors import QueueUnavailable
from kefu.kafka import MAX_RECORD_BYTES
from kefu.reach import kafka_problem
from kefu.settings import KafkaSettings

CONNECT_S = 2.5  # for a person who waits; a checker on a busy machine takes longer
WHY_S = 1.0  # for the reason of a failed connection, so that it is told within 5 s
TIMEOUT_S = 30.0
PAUSE_S = 0.2
FETCH_BYTES = 4 * 1024 * 1024  # bounds what is in memory: one fetch being read, one on its way
T = TypeVar("T")

logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its lines repeat what its exceptions say, once a try


def admin(kafka: KafkaSettings, connect_s: float = CONNECT_S) -> KafkaAdminClient:
    """Return a connected client that asks brokers; raises QueueUnavailable, naming the setting at fault."""
    return _connected(KafkaAdminClient, kafka, connect_s)


def consumer(kafka: KafkaSettings, connect_s: float = CONNECT_S) -> KafkaConsumer:
    """Return a connected consumer of no group, which commits nothing; raises QueueUnavailable as `admin` does."""
    return _connected(
        KafkaConsumer,
        kafka,
        connect_s,
        enable_auto_commit=False,
        auto_offset_reset="none",  # an offset that is gone is an error, not another place to begin
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        fetch_max_bytes=FETCH_BYTES,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
        fetch_max_wait_ms=10,  # a fetch that waits at the end of a partition holds up every other request
        metrics_enabled=False,
    )


def asked(ask: Callable[[], T], of: str = "", within_s: float = TIMEOUT_S) -> T:
    """Return the answer; ask again while the error is a passing one. Blocks.

    A broker that has just started doesn't know yet who leads a partition or keeps a group, and a leader may move.

    Args:
        ask: one question to Kafka.
        of: the topic or group that it is about, for the message.
        within_s: how long a passing error may last.

    Raises:
        QueueUnavailable: the error did not pass, or is none that does.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            return ask()
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise QueueUnavailable(f"{of}: {reason(error)}" if of else reason(error)) from error
        time.sleep(PAUSE_S)


def reason(error: "KafkaError | Type[KafkaError]") -> str:
    """Return Kafka's own name of an error, as NOT_COORDINATOR, or the class of one that never reached Kafka."""
    kind = error if isinstance(error, type) else type(error)
    return getattr(kind, "message", None) or kind.__name__


def connection(kafka: KafkaSettings) -> Dict[str, Any]:
    """Return kafka-python's settings for the connection."""
    config: Dict[str, Any] = {
        "bootstrap_servers": kafka.brokers.split(","),
        "security_protocol": kafka.security_protocol,
        "reconnect_backoff_max_ms": 1000,
    }
    if kafka.sasl_username:
        config.update(
            sasl_mechanism="SCRAM-SHA-512",
            sasl_plain_username=kafka.sasl_username,
            sasl_plain_password=kafka.sasl_password,
        )
    if kafka.ca_file:
        config["ssl_cafile"] = kafka.ca_file
    return config


def _connected(make: Callable[..., T], kafka: KafkaSettings, connect_s: float, **options: Any) -> T:
    try:
        return make(**connection(kafka), bootstrap_timeout_ms=connect_s * 1000, **options)
    except KafkaTimeoutError as error:  # whatever was wrong: kafka-python tries again until its time is up
        why = kafka_problem(kafka, WHY_S) or f"KAFKA_BROKERS names {kafka.brokers}: no answer within {connect_s:.1f} s"
        raise QueueUnavailable(why) from error
