"""Sends to Kafka: a stored turn's records, the record that a hand-over has begun, and dead letters."""

import logging
import time
from typing import Iterator, List, Tuple

import orjson

from kefu import metrics
from kefu.codec import encode
from kefu.errors import RecordRefused
from kefu.events import ANSWERS, DEAD_LETTERS, DIALOGUE_EVENTS, USER_QUERY, HandoffStarted, InboxEvent
from kefu.headers import ATTEMPTS, CUT_FROM, ERROR_CLASS, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TOPIC
from kefu.kafka import EventProducer
from kefu.worker.conversation.stored import METADATA, WAITING
from kefu.worker.inbox.message import Done
from kefu.worker.inbox.patience import Patience
from kefu.worker.intake.records import Record
from kefu.worker.turns.outcome import turn_events

logger = logging.getLogger(__name__)

CUT_BYTES = 64 * 1024  # a dead letter that Kafka refuses is cut to this size, the largest that a gateway accepts
# A pause event as orjson writes it. In a customer's text the quotes would be escaped, so this finds only events.
_PAUSE = b'"event":"pause"'
_PUBLISH_S = metrics.TURN_SECONDS.labels("publish")


class Publisher:
    """Sends the outcomes of the inbox's messages. Each call returns when Kafka has acknowledged all of its records."""

    def __init__(self, producer: EventProducer) -> None:
        self._producer = producer

    async def publish(self, patience: Patience, event: InboxEvent, done: Done) -> None:
        """Publish a stored turn. Repeats until Kafka has all records; their ids stay the same.

        Args:
            patience: of the message.
            event: the cause of the turn.
            done: the stored turn.
        """
        records = [(ANSWERS, done.answer)]
        if done.events:
            records.insert(0, (DIALOGUE_EVENTS, turn_events(event, done.version, done.events)))
            records += [(USER_QUERY, record) for record in handed_over(event, done.events)]
        started = time.monotonic()
        await patience.repeat(self._send_all, event, records)
        _PUBLISH_S.observe(time.monotonic() - started)

    async def put_aside(
        self, patience: Patience, record: Record, error_class: str, attempts: int, trace: str = ""
    ) -> None:
        """Send a record to the dead letters in `user.query.dlq`, unchanged, with headers that give the reason.

        Args:
            patience: of the message.
            record: the message as Kafka delivered it.
            error_class: why the record could not be processed.
            attempts: how often processing was tried.
            trace: the event's traceparent, added if the record has no such header.
        """
        why = [
            (ERROR_CLASS, error_class.encode()),
            (ATTEMPTS, str(attempts).encode()),
            (ORIGIN_TOPIC, record.topic.encode()),
            (ORIGIN_PARTITION, str(record.partition).encode()),
            (ORIGIN_OFFSET, str(record.offset).encode()),
        ]
        traced = [("traceparent", trace.encode())] if trace and "traceparent" not in dict(record.headers) else []
        await patience.repeat(self._send_letter, record, traced, why)

    async def _send_all(self, event: InboxEvent, records: List[Tuple[str, bytes]]) -> None:
        """Send records, then wait until Kafka has acknowledged each. A record that Kafka refuses is only logged."""
        sent = [self._producer.send(topic, event.conversation, value) for topic, value in records]
        for acknowledged in sent:
            try:
                await acknowledged
            except RecordRefused:
                logger.error("record refused by Kafka", extra={"fields": {"message_id": event.message_id}})

    async def _send_letter(self, record: Record, traced: List[Tuple[str, bytes]], why: List[Tuple[str, bytes]]) -> None:
        try:
            await self._producer.send(DEAD_LETTERS, record.key, record.value, [*record.headers, *traced, *why])
        except RecordRefused:  # too large with the headers; a message from a gateway never is
            cut = (CUT_FROM, str(len(record.value)).encode())
            await self._producer.send(DEAD_LETTERS, record.key, record.value[:CUT_BYTES], [*why, cut])


def handed_over(event: InboxEvent, events: bytes) -> Iterator[bytes]:
    """Yield the encoded HandoffStarted of a turn that handed the conversation over; nothing for other turns.

    The record is built from the turn's stored events, so that a repeated publish builds the same one.

    Args:
        event: the cause of the turn.
        events: of the turn, encoded.
    """
    if _PAUSE not in events:
        return
    for each in orjson.loads(events):
        handoff = (each.get("metadata") or {}).get(METADATA) if each["event"] == "pause" else None
        if handoff and handoff["status"] == WAITING:
            started = HandoffStarted(
                event.tenant,
                event.user,
                handoff["id"],
                handoff["by"],
                handoff["summary"],
                ts=handoff["since"],
                traceparent=event.traceparent,
            )
            yield encode(started)
