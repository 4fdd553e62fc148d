"""Connects kafka-python's clients, for operators' commands and checkers, and repeats calls that failed temporarily.

It is a second client, independent of confluent-kafka, whose writes it checks (see ops/decisions/0012). Its errors say
whether a retry can help.
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

CONNECT_S = 2.5  # time limit to connect, short because an operator waits; checkers on busy machines pass a longer one
WHY_S = 1.0  # time limit to find out why a connection failed, so that the operator reads it within 5 s
TIMEOUT_S = 30.0  # how long a call with a temporary error is repeated; beyond it QueueUnavailable is raised
PAUSE_S = 0.2  # between two attempts of a call
FETCH_BYTES = 4 * 1024 * 1024  # limits a fetch; memory holds two, the one being read and the next
T = TypeVar("T")

logging.getLogger("kafka").setLevel(logging.CRITICAL)  # at each attempt kafka-python logs the exception that it raises


def admin(kafka: KafkaSettings, connect_s: float = CONNECT_S) -> KafkaAdminClient:
    """Return a connected admin client; raises QueueUnavailable, which names the setting at fault."""
    return _connected(KafkaAdminClient, kafka, connect_s)


def consumer(kafka: KafkaSettings, connect_s: float = CONNECT_S) -> KafkaConsumer:
    """Return a connected consumer without a group; it commits nothing. Raises QueueUnavailable as `admin` does."""
    return _connected(
        KafkaConsumer,
        kafka,
        connect_s,
        enable_auto_commit=False,
        auto_offset_reset="none",  # makes a deleted offset an error; the default would start at another offset
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        fetch_max_bytes=FETCH_BYTES,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
        fetch_max_wait_ms=10,  # short, because a fetch that waits at a partition's end delays all other requests
        metrics_enabled=False,
    )


def asked(ask: Callable[[], T], of: str = "", within_s: float = TIMEOUT_S) -> T:
    """Return the result of `ask`; call it again while its error is retriable. Blocks.

    Such errors are normal: a broker that has just started doesn't know the leaders of partitions or the coordinators
    of groups yet, and both may move.

    Args:
        ask: one call to Kafka.
        of: the topic or group of the call, for the error's text.
        within_s: how long retriable errors may last.

    Raises:
        QueueUnavailable: the error lasted longer, or is not retriable.
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
    """Return Kafka's name of an error, such as NOT_COORDINATOR, or the class name of a local error."""
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
    except KafkaTimeoutError as error:  # the error for any cause, because kafka-python retries until its time is up
        why = kafka_problem(kafka, WHY_S) or f"KAFKA_BROKERS names {kafka.brokers}: no answer within {connect_s:.1f} s"
        raise QueueUnavailable(why) from error
