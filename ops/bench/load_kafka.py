"""Sends messages to Kafka as the gateway does, and reads the answers from `answer.generated`: for the worker alone."""

import uuid
from typing import Any, Dict

import orjson
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from kefu.codec import encode
from kefu.events import ANSWERS, USER_QUERY, UserSaid, conversation_key
from ops.bench.customers import TENANT, Customer, Job, Load, count_replies

TIMEOUT_S = 30.0  # longest wait for Kafka's answer
BATCH = 500  # limits the records that are read at a time
POLL_S = 0.001  # longest wait of a poll while messages come by the clock
IDLE_POLL_S = 0.05  # longest wait of a poll otherwise


class Ledger:
    """The messages that wait for an answer, and the answers that have come."""

    def __init__(self) -> None:
        self._under_way: Dict[str, Customer] = {}
        self._answers: Dict[str, str] = {}

    def expect(self, customer: Customer) -> None:
        """Add a message that is about to be sent."""
        self._under_way[customer.message_id] = customer

    def note(self, load: Load, answer: Dict[str, Any]) -> None:
        """Count an `AnswerGenerated` and its errors."""
        message_id = answer["message_id"]
        if message_id in self._answers:
            # The same record may come twice, because a worker publishes it at least once, under one id.
            load.counts.doubled += self._answers[message_id] != answer["id"]
            return
        customer = self._under_way.pop(message_id, None)
        if customer is None:
            load.counts.unexpected += 1
            return
        self._answers[message_id] = answer["id"]
        load.counts.failed += answer["status"] != "answered"
        load.answered(customer, count_replies(load, customer, answer["replies"]))


def producer(brokers: str) -> Producer:
    """Return a producer with the settings of `kefu.kafka`."""
    return Producer(
        {
            "bootstrap.servers": brokers,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 2,
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
        }
    )


class KafkaTransport:
    """One producer and one consumer, in one thread."""

    def __init__(self, job: Job) -> None:
        self._producer = producer(job.brokers)
        self._consumer = Consumer(
            {
                "bootstrap.servers": job.brokers,
                "group.id": f"bench-{uuid.uuid4().hex}",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 100,
            }
        )
        self._ledger = Ledger()

    def connect(self, load: Load) -> None:
        """Go to the end of each partition of `answer.generated`."""
        topic = self._consumer.list_topics(ANSWERS, TIMEOUT_S).topics[ANSWERS]
        partitions = [TopicPartition(ANSWERS, number) for number in topic.partitions]
        for partition in partitions:
            partition.offset = self._consumer.get_watermark_offsets(partition, TIMEOUT_S)[1]
        self._consumer.assign(partitions)
        self._producer.list_topics(USER_QUERY, TIMEOUT_S)

    def send(self, customer: Customer) -> None:
        """Send a customer's message to `user.query`."""
        said = UserSaid(TENANT, customer.user, customer.message_id, text=customer.text, identified=True)
        self._ledger.expect(customer)
        self._producer.produce(USER_QUERY, encode(said), conversation_key(TENANT, customer.user).encode())

    def run(self, load: Load) -> None:
        """Run the load until it is done."""
        wait_s = POLL_S if load.job.rate else IDLE_POLL_S
        load.begin()
        while load.tick():
            self._producer.poll(0)
            records = self._consumer.consume(1, wait_s)
            if records:
                records += self._consumer.consume(BATCH, 0)
            for record in records:
                if record.error() is not None:
                    raise KafkaException(record.error())
                self._ledger.note(load, orjson.loads(record.value() or b""))
        self._producer.flush(TIMEOUT_S)
        self._consumer.close()
