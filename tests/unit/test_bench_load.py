"""The bench's load generator counts wrong answers: the figures of a system that loses answers would be worthless."""

import random
import time

import pytest

from ops.bench import scripts
from ops.bench.customers import Job, Load, count_replies
from ops.bench.load_http import Connection
from ops.bench.load_kafka import Ledger


class Line:
    """A transport that keeps the customers whose messages were sent."""

    def __init__(self):
        self.sent = []

    def send(self, customer):
        self.sent.append(customer)


def load(users=1, turns=3, conversations=1, **more):
    job = Job("kafka", users, turns, conversations, 7, more.pop("seconds", 60), **more)
    made = Load(job, Line())
    made.begin()
    return made


def answer(customer, seqs, status="answered", record="r"):
    replies = [{"seq": seq, "message_id": customer.message_id} for seq in seqs]
    return {"message_id": customer.message_id, "id": record, "status": status, "replies": replies}


def test_load_customer_sends_the_next_message_after_the_answer():
    """After the last turn the customer begins a new conversation."""
    talk = load(turns=2, conversations=2)
    ids = []
    while talk.transport.sent:
        customer = talk.transport.sent.pop()
        ids.append(customer.message_id)
        talk.answered(customer, 1)
    assert ids == ["7-0", "7-1", "8-0", "8-1"]
    assert talk.results()["turns"] == 4 and talk.results()["lost"] == 0


def test_load_counts_a_message_without_an_answer_as_lost():
    talk = load(users=3, conversations=3)
    talk.answered(talk.transport.sent[0], 1)
    assert talk.results()["lost"] == 3  # two customers' first messages and one customer's second


def test_load_counts_a_second_answer_as_doubled():
    """A record that Kafka delivers again has the same id and is not counted."""
    talk, ledger = load(), Ledger()
    customer = talk.transport.sent[0]
    ledger.expect(customer)
    first = answer(customer, [1])
    ledger.note(talk, first)
    ledger.note(talk, first)
    assert talk.counts.doubled == 0
    ledger.note(talk, {**first, "id": "another"})
    assert talk.counts.doubled == 1 and talk.counts.turns == 1


def test_load_counts_unexpected_failed_and_empty_answers():
    talk, ledger = load(), Ledger()
    customer = talk.transport.sent[0]
    ledger.note(talk, {**answer(customer, [1]), "message_id": "99-9"})
    ledger.expect(customer)
    ledger.note(talk, answer(customer, [], status="failed"))
    assert (talk.counts.unexpected, talk.counts.failed, talk.counts.silent) == (1, 1, 1)


@pytest.mark.parametrize("seqs, wrong", [([1, 2, 3], 0), ([1, 3], 1), ([1, 1], 1), ([2, 1], 2)])
def test_load_counts_replies_out_of_sequence(seqs, wrong):
    talk = load()
    count_replies(talk, talk.transport.sent[0], [{"seq": seq} for seq in seqs])
    assert talk.counts.out_of_order == wrong


def test_latency_by_the_clock_counts_from_the_due_time():
    """A message that is due while all customers are busy waits for an idle one."""
    talk = load(users=1, turns=50, rate=1000.0, seconds=60)
    while not talk.transport.sent:
        talk.tick()
    time.sleep(0.05)  # the only customer still waits for an answer
    talk.tick()
    talk.answered(talk.transport.sent[0], 1)
    assert len(talk.transport.sent) == 2
    talk.answered(talk.transport.sent[1], 1)
    assert talk.latencies_ms[1] > 25


def test_load_counts_unsent_messages_apart_from_lost_ones():
    talk = load(users=1, turns=50, rate=1000.0, seconds=0.05)
    while not talk.transport.sent:
        talk.tick()
    time.sleep(0.1)
    talk.tick()
    talk.answered(talk.transport.sent[0], 1)
    assert talk.results()["unsent"] > 0 and talk.results()["lost"] == 0


def test_http_responses_are_read_from_any_pieces():
    page = (
        b"HTTP/1.1 202 Accepted\r\ncontent-length: 5\r\nx: y\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )
    cuts = random.Random(1)
    for _ in range(200):
        got = []
        connection = Connection(lambda status, body, got=got: got.append((status, body)), lambda: None)
        rest = page
        while rest:
            size = cuts.randint(1, len(rest))
            connection.data_received(rest[:size])
            rest = rest[size:]
        assert got == [(202, b"hello"), (200, b"")]


def test_load_texts_are_reproducible_and_mostly_different():
    texts = [scripts.text(scripts.TALK, customer, turn) for customer in range(100) for turn in range(5)]
    assert texts == [scripts.text(scripts.TALK, customer, turn) for customer in range(100) for turn in range(5)]
    assert len(set(texts)) > 450


def test_customers_of_the_orders_script_name_their_own_order():
    """The script `talk` names no order."""
    for turn in range(5):
        assert not any(character.isdigit() for character in scripts.text(scripts.TALK, 12, turn))
    assert [scripts.order_number(12) in scripts.text(scripts.ORDERS, 12, turn) for turn in range(5)] == [
        False, True, False, True, False,
    ]  # fmt: skip
