"""Puts records aside that can't be processed: into `user.query.dlq`, with what is needed to replay them."""

from kefu.errors import RecordRefused
from kefu.events import DEAD_LETTERS
from kefu.headers import ATTEMPTS, CUT_FROM, ERROR_CLASS, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC
from kefu.kafka import EventProducer
from kefu.worker.intake.records import Record

CUT_BYTES = 64 * 1024  # as much as a gateway lets in


async def send(producer: EventProducer, record: Record, error_class: str, attempts: int, trace: str = "") -> None:
    """Put a record aside as it came, with headers that tell why; Kafka has it when this returns.

    Raises:
        QueueUnavailable: Kafka doesn't acknowledge it.
    """
    why = [
        (ERROR_CLASS, error_class.encode()),
        (ATTEMPTS, str(attempts).encode()),
        (ORIGIN_TOPIC, record.topic.encode()),
        (ORIGIN_PARTITION, str(record.partition).encode()),
        (ORIGIN_OFFSET, str(record.offset).encode()),
    ]
    traced = [("traceparent", trace.encode())] if trace and "traceparent" not in dict(record.headers) else []
    try:
        await producer.send(DEAD_LETTERS, record.key, record.value, [*record.headers, *traced, *why])
    except RecordRefused:  # with the headers it is larger than Kafka takes: nothing that a gateway has let in
        cut = (CUT_FROM, str(len(record.value)).encode())
        await producer.send(DEAD_LETTERS, record.key, record.value[:CUT_BYTES], [*why, cut])
