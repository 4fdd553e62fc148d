"""The producer: every record is acknowledged or fails, and the event loop is not blocked meanwhile."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

from kefu.errors import QueueUnavailable, RecordRefused
from kefu.events import USER_QUERY
from kefu.kafka import MAX_RECORD_BYTES, EventProducer
from ops.local.servers import free_port


async def test_producer_gets_every_record_acknowledged(kafka_settings):
    producer = EventProducer(kafka_settings)
    sent = [producer.send(USER_QUERY, f"demo:{number}", b"x" * 100) for number in range(2000)]
    assert producer.waiting == 2000
    assert await asyncio.wait_for(asyncio.gather(*sent), 60) == [None] * 2000
    assert producer.waiting == 0 and await asyncio.to_thread(producer.close) == 0


async def test_producers_connect_survives_missing_brokers(kafka_settings, monkeypatch, caplog):
    producer = EventProducer(kafka_settings)
    monkeypatch.setattr("kefu.kafka.CONNECTING_S", 60)
    await asyncio.wait_for(producer.connect(), 120)
    assert not caplog.records
    await asyncio.to_thread(producer.close)
    monkeypatch.setattr("kefu.kafka.CONNECTING_S", 0.2)
    away = EventProducer(replace(kafka_settings, brokers=f"127.0.0.1:{free_port()}"))
    await asyncio.wait_for(away.connect(), 60)
    assert "kafka can't be reached yet" in caplog.messages
    await asyncio.to_thread(away.close, 0.1)


async def test_closing_producer_waits_for_the_sent_records(kafka_settings):
    producer = EventProducer(kafka_settings)
    await asyncio.wait_for(producer.send(USER_QUERY, "demo:alice", b"first"), 60)
    sent = [producer.send(USER_QUERY, "demo:alice", b"x") for _ in range(100)]
    assert await asyncio.to_thread(producer.close, 60.0) == 0
    await asyncio.wait_for(asyncio.gather(*sent), 60)


async def test_a_refused_record_does_not_stop_the_next(kafka_settings):
    """A record that is too large is refused."""
    producer = EventProducer(kafka_settings)
    refused = producer.send(USER_QUERY, "demo:alice", b"x" * (MAX_RECORD_BYTES + 1))
    accepted = producer.send(USER_QUERY, "demo:alice", b"x")
    with pytest.raises(RecordRefused):
        await asyncio.wait_for(refused, 60)
    await asyncio.wait_for(accepted, 60)
    assert producer.waiting == 0
    await asyncio.to_thread(producer.close)


async def test_record_without_a_broker_fails_and_blocks_no_event_loop(kafka_settings):
    producer = EventProducer(replace(kafka_settings, brokers=f"127.0.0.1:{free_port()}"), timeout_s=1.0)
    for _ in range(5):  # one good attempt is enough: on a busy machine the loop may get few turns
        sent, turns = producer.send(USER_QUERY, "demo:alice", b"x"), 0
        while not sent.done():
            await asyncio.sleep(0.01)
            turns += 1
        with pytest.raises(QueueUnavailable):
            sent.result()
        assert producer.waiting == 0
        if turns > 10:
            break
    assert turns > 10
    await asyncio.to_thread(producer.close, 0.1)


async def test_cancelled_send_does_not_affect_other_records(kafka_settings):
    producer = EventProducer(kafka_settings)
    sent = [producer.send(USER_QUERY, "demo:alice", b"x") for _ in range(3)]
    sent[1].cancel()
    await asyncio.wait_for(asyncio.gather(sent[0], sent[2]), 60)
    await asyncio.to_thread(producer.close)


def test_a_producer_serves_several_event_loops_in_turn(kafka_settings):
    producer = EventProducer(kafka_settings)

    async def send():
        return await asyncio.wait_for(producer.send(USER_QUERY, "demo:alice", b"x"), 60)

    assert [asyncio.run(send()) for _ in range(3)] == [None] * 3
    assert producer.waiting == 0 and producer.close() == 0


async def test_delivery_report_without_an_offset_is_a_failure(kafka_settings):
    """librdkafka infers that a record was written when a later one was; it knows no offset then."""
    producer = EventProducer(kafka_settings)
    sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    producer.waiting += 1
    producer._keep_outcome(sent, USER_QUERY, None, SimpleNamespace(offset=lambda: None))
    producer._settle()
    with pytest.raises(QueueUnavailable):
        sent.result()
    await asyncio.to_thread(producer.close, 0.1)
