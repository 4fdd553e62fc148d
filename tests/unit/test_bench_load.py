"""The load generator counts what goes wrong: figures of a system that loses answers would be worth nothing."""

import random
import time

import pytest

from ops.bench import scripts
from ops.bench.customers import Job, Load, count_replies
from ops.bench.load_http import Connection
from ops.bench.load_kafka import Ledger


class Line:
    """A transport that keeps what was sent."""

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


def test_a_customer_says_the_next_thing_when_the_answer_is_there_and_then_begins_a_new_conversation():
    talk = load(turns=2, conversations=2)
    said = []
    while talk.transport.sent:
        customer = talk.transport.sent.pop()
        said.append(customer.message_id)
        talk.answered(customer, 1)
    assert said == ["7-0", "7-1", "8-0", "8-1"]
    assert talk.results()["turns"] == 4 and talk.results()["lost"] == 0


def test_a_message_without_an_answer_is_lost():
    talk = load(users=3, conversations=3)
    talk.answered(talk.transport.sent[0], 1)
    assert talk.results()["lost"] == 3  # the two others' and the first one's next


def test_an_answer_under_a_second_id_is_doubled_and_the_same_record_again_is_not():
    talk, ledger = load(), Ledger()
    customer = talk.transport.sent[0]
    ledger.expect(customer)
    first = answer(customer, [1])
    ledger.note(talk, first)
    ledger.note(talk, first)
    assert talk.counts.doubled == 0
    ledger.note(talk, {**first, "id": "another"})
    assert talk.counts.doubled == 1 and talk.counts.turns == 1


def test_an_answer_to_what_nobody_said_and_a_failed_or_empty_one_are_counted():
    talk, ledger = load(), Ledger()
    customer = talk.transport.sent[0]
    ledger.note(talk, {**answer(customer, [1]), "message_id": "99-9"})
    ledger.expect(customer)
    ledger.note(talk, answer(customer, [], status="failed"))
    assert (talk.counts.unexpected, talk.counts.failed, talk.counts.silent) == (1, 1, 1)


@pytest.mark.parametrize("seqs, wrong", [([1, 2, 3], 0), ([1, 3], 1), ([1, 1], 1), ([2, 1], 2)])
def test_replies_out_of_their_sequence_are_counted(seqs, wrong):
    talk = load()
    count_replies(talk, talk.transport.sent[0], [{"seq": seq} for seq in seqs])
    assert talk.counts.out_of_order == wrong


def test_by_the_clock_a_message_waits_for_an_idle_customer_and_its_time_counts_from_when_it_was_due():
    talk = load(users=1, turns=50, rate=1000.0, seconds=60)
    while not talk.transport.sent:
        talk.tick()
    time.sleep(0.05)  # the one customer is busy meanwhile
    talk.tick()
    talk.answered(talk.transport.sent[0], 1)
    assert len(talk.transport.sent) == 2
    talk.answered(talk.transport.sent[1], 1)
    assert talk.latencies_ms[1] > 25


def test_what_could_not_be_sent_in_time_is_told_apart_from_what_was_lost():
    talk = load(users=1, turns=50, rate=1000.0, seconds=0.05)
    while not talk.transport.sent:
        talk.tick()
    time.sleep(0.1)
    talk.tick()
    talk.answered(talk.transport.sent[0], 1)
    assert talk.results()["unsent"] > 0 and talk.results()["lost"] == 0


def test_an_answer_over_http_is_read_whole_in_whatever_pieces_it_comes():
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


def test_texts_are_the_same_each_time_and_seldom_come_twice():
    said = [scripts.text(scripts.TALK, customer, turn) for customer in range(100) for turn in range(5)]
    assert said == [scripts.text(scripts.TALK, customer, turn) for customer in range(100) for turn in range(5)]
    assert len(set(said)) > 450


def test_only_the_script_of_orders_names_an_order_and_each_customer_names_the_own_one():
    for turn in range(5):
        assert not any(character.isdigit() for character in scripts.text(scripts.TALK, 12, turn))
    assert [scripts.order_number(12) in scripts.text(scripts.ORDERS, 12, turn) for turn in range(5)] == [
        False, True, False, True, False,
    ]  # fmt: skip
