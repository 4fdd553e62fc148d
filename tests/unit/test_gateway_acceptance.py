"""A message is accepted once Kafka has acknowledged it, and refused when that takes too long."""

import asyncio

import pytest

from kefu.errors import QueueUnavailable
from kefu.events import UserSaid
from kefu.gateway.receive.acceptance import Acceptance, Deadlines
from kefu.gateway.receive.backlog import Backlog


class Sender:
    """A producer whose records the test acknowledges itself."""

    def __init__(self):
        self.sent = []

    def send(self, topic, key, value):
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]


async def nothing_answered(conversation, message_ids):
    return [False] * len(message_ids)


def said(message_id):
    return UserSaid("demo", "alice", message_id, text="hello")


async def test_deadlines_expire_in_order_and_not_early():
    loop, deadlines, ended = asyncio.get_running_loop(), Deadlines(0.1), []
    futures = [loop.create_future() for _ in range(3)]
    began = loop.time()
    for number, future in enumerate(futures):
        future.add_done_callback(lambda _, number=number: ended.append((number, loop.time() - began)))
    deadlines.watch(futures[0])
    deadlines.watch(futures[1])
    futures[1].set_result(None)
    await asyncio.sleep(0.02)
    deadlines.watch(futures[2])
    await asyncio.wait(futures)
    await asyncio.sleep(0)
    assert [number for number, _ in ended] == [1, 0, 2] and ended[1][1] >= 0.1 and ended[2][1] >= 0.12
    assert all(isinstance(future.exception(), QueueUnavailable) for future in (futures[0], futures[2]))
    assert deadlines._timer is None and not deadlines._due


async def test_deadlines_of_finished_futures_are_dropped():
    loop, deadlines = asyncio.get_running_loop(), Deadlines(60)
    for _ in range(1000):
        future = loop.create_future()
        deadlines.watch(future)
        future.set_result(None)
    assert len(deadlines._due) == 1


async def test_message_is_accepted_only_once_kafka_acknowledged_it():
    sender = Sender()
    accepting = asyncio.create_task(Acceptance(sender, 60, Backlog(1, nothing_answered)).accept(said("a")))
    await asyncio.sleep(0.05)
    assert not accepting.done()
    sender.sent[-1].set_result(None)
    await accepting


async def test_message_refused_for_its_deadline_leaves_the_backlog():
    sender, backlog = Sender(), Backlog(1, nothing_answered)
    inbox = Acceptance(sender, 0.05, backlog)
    for name in ("a", "b"):
        with pytest.raises(QueueUnavailable):
            await inbox.accept(said(name))
    accepting = asyncio.create_task(inbox.accept(said("c")))
    await asyncio.sleep(0)
    sender.sent[-1].set_result(None)
    await accepting
    assert backlog._counted == 1


async def test_a_cancelled_accept_stays_counted():
    """The message may still reach Kafka, so the backlog keeps counting it."""
    sender, backlog = Sender(), Backlog(1, nothing_answered)
    accepting = asyncio.create_task(Acceptance(sender, 5, backlog).accept(said("a")))
    await asyncio.sleep(0)
    accepting.cancel()
    await asyncio.gather(accepting, return_exceptions=True)
    assert backlog._counted == 1
