"""Records as Kafka delivered them, and the event in each record."""

from dataclasses import dataclass, replace
from typing import Any, List, Tuple

from confluent_kafka import Message

from kefu.codec import decode_inbox
from kefu.errors import PoisonMessage
from kefu.events import AgentSaid, InboxEvent, UserSaid
from kefu.privacy import mask, mask_all


@dataclass(frozen=True)
class Record:
    """A record of an inbox as Kafka delivered it."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: List[Tuple[str, bytes]]

    @classmethod
    def of(cls, message: Message) -> "Record":
        """Return the record in a message of the Kafka client; a missing key or value becomes empty."""
        # The client's types also cover messages about errors. A delivered message has a topic, a partition, an offset,
        # and a list of headers.
        delivered: Any = message
        return cls(
            topic=delivered.topic(),
            partition=delivered.partition(),
            offset=delivered.offset(),
            key=delivered.key() or b"",
            value=delivered.value() or b"",
            headers=delivered.headers() or [],
        )


def read(record: Record) -> InboxEvent:
    """Return the event in a record. People's words are masked again, since its sender may not have masked them.

    Raises:
        PoisonMessage: the record holds no valid event, or its key names another conversation.
    """
    event = decode_inbox(record.value)
    if record.key != event.conversation.encode():
        raise PoisonMessage("wrong_key", "key and conversation differ")
    if type(event) is AgentSaid:
        return replace(event, text=mask(event.text), name=mask(event.name))
    if type(event) is not UserSaid:
        return event
    return replace(event, text=event.text and mask(event.text), metadata=mask_all(event.metadata))
