"""Mending from Kafka of acknowledged writes that Redis lost and no worker remembers."""

import asyncio
import uuid

import orjson
import pytest
import pytest_asyncio

from kefu import metrics
from kefu.codec import encode
from kefu.errors import QueueUnavailable
from kefu.events import ANSWERS, DIALOGUE_EVENTS, UserSaid
from kefu.kafka import EventProducer, create_topics
from kefu.settings import KafkaSettings, RedisSettings
from kefu.worker.inbox.message import Inbound
from kefu.worker.inbox.protocol import Inbox
from kefu.worker.intake.records import Record
from kefu.worker.storage import published
from kefu.worker.storage.conversations import Conversations
from kefu.worker.storage.mending import Mender
from kefu.worker.storage.published import PublishedTail
from kefu.worker.turns.live import LiveConversations
from ops.local.servers import RedisServer, free_port

pytestmark = pytest.mark.asyncio
ALICE = "demo:alice"


class Forgetful(RedisServer):
    """A server that can act as a replica that took over without the last writes."""

    def command(self):
        return [*super().command(), "--enable-debug-command", "local"]


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    server = Forgetful(tmp_path_factory.mktemp("forgetful"), free_port())
    server.start()
    server.wait_ready(20)
    yield server
    server.stop()


class Place:
    """Redis, Kafka and the successive workers of one partition."""

    partition = 1  # of 8: murmur2 gives demo:alice and demo:bob this one

    def __init__(self, agent, kafka, redis):
        self.agent, self.kafka, self.redis = agent, kafka, redis
        self.producer = EventProducer(kafka)
        self.store = Conversations(redis)
        self.tail = PublishedTail(kafka, 120)
        self.rearmed = []
        self.start_worker()

    def start_worker(self, live=10):
        """Start a worker that has no conversation in memory."""
        self.mender = Mender(self.store, self.tail, lambda: [self.partition], self.rearm)
        self.inbox = Inbox(
            self.agent.runner(10), self.store, LiveConversations(live), self.producer, 2, 4, mender=self.mender
        )

    async def rearm(self, conversation, partition):
        self.rearmed.append((conversation, partition))

    async def say(self, *message_ids, user="alice"):
        for message_id in message_ids:
            await self.inbox.process(self.inbound(message_id, user))

    def inbound(self, message_id, user="alice", text="hello"):
        said = UserSaid("demo", user, message_id, text=text, identified=True)
        parsed = asyncio.get_running_loop().create_future()
        parsed.set_result(self.inbox.runner.processor.parse_batch("test", [text])[0])
        record = Record("user.query", self.partition, 7, said.conversation.encode(), encode(said), [])
        return Inbound(record, said, lambda: True, parsed)

    async def snapshot(self):
        """Return every stored key, as a replica has it."""
        keys = await self.client.keys(f"{self.redis.key_prefix}:*")
        return {key: await self.client.dump(key) for key in keys}

    async def fail_over(self, to):
        """Replace all data by the snapshot `to`, as when a replica takes over."""
        pipe = self.client.pipeline()
        for key in await self.client.keys(f"{self.redis.key_prefix}:*"):
            pipe.delete(key)
        for key, value in to.items():
            pipe.restore(key, 7 * 24 * 3600 * 1000, value)
        pipe.execute_command("DEBUG", "CHANGE-REPL-ID")
        await pipe.execute()

    @property
    def client(self):
        return self.store.servers.redis._client

    async def replies(self, user="alice"):
        entries = await self.client.xrange(self.store.keys(f"demo:{user}").replies)
        return [(orjson.loads(fields[b"r"])["seq"], orjson.loads(fields[b"r"])["message_id"]) for _, fields in entries]


@pytest_asyncio.fixture
async def place(agent, brokers, forgetful):
    kafka = KafkaSettings(brokers, topic_prefix=f"t{uuid.uuid4().hex[:8]}.")
    create_topics(kafka)
    place = Place(agent, kafka, RedisSettings(forgetful.url, key_prefix=f"t{uuid.uuid4().hex[:8]}", timeout_s=30))
    yield place
    place.producer.close()
    await place.mender.stop()
    await place.store.close()


def mended(source="kafka"):
    return metrics.MENDED_TURNS.labels(source)._value.get()


async def test_new_worker_mends_lost_writes_and_continues(place):
    await place.say("m1", "m2")
    replica = await place.snapshot()
    await place.say("m3", "m4")
    whole, markers = await place.store.load(ALICE), [await place.store.marker(ALICE, f"m{n}") for n in (3, 4)]
    await place.fail_over(replica)
    assert (await place.store.load(ALICE)).version == 2
    place.start_worker()
    await place.say("m5")
    stored = await place.store.load(ALICE)
    assert (stored.version, stored.turns[:4]) == (5, whole.turns)
    assert [await place.store.marker(ALICE, f"m{n}") for n in (3, 4)] == markers
    assert await place.replies() == [(n, f"m{n}") for n in range(1, 6)]
    assert place.rearmed == [(ALICE, place.partition)]


async def test_redelivered_message_with_a_lost_write_is_not_rerun(place):
    await place.say("m1")
    nothing = {}
    before = mended()
    await place.fail_over(nothing)
    place.start_worker()
    await place.say("m1", "m2")
    assert await place.replies() == [(1, "m1"), (2, "m2")]
    assert mended() == before + 1


async def test_running_worker_mends_turns_evicted_from_memory(place):
    place.start_worker(live=1)
    await place.say("m1")
    replica = await place.snapshot()
    await place.say("m2")
    await place.say("n1", user="bob")  # evicts alice's tracker
    await place.fail_over(replica)
    await place.say("m3")
    assert await place.replies() == [(1, "m1"), (2, "m2"), (3, "m3")]


async def test_more_lost_writes_than_in_memory_are_mended(place):
    """The worker's memory has the last turns only; Kafka has the others."""
    await place.say("m1")
    replica = await place.snapshot()
    await place.say(*(f"m{n}" for n in range(2, 13)))
    await place.fail_over(replica)
    await place.say("m13")
    assert await place.replies() == [(n, f"m{n}") for n in range(1, 14)]


async def test_conversation_is_mended_without_a_message(place):
    """The mender sees the failover at its next look."""
    await place.say("m1")
    await place.mender.look()
    await place.fail_over({})
    await place.mender.look()
    while place.mender.in_doubt(place.partition):  # postponed where a server was late: the next look retries
        await place.mender._background
        await place.mender.look()
    assert await place.replies() == [(1, "m1")]


async def test_failover_without_losses_costs_no_write(place, monkeypatch):
    await place.say("m1", "m2")
    await place.fail_over(await place.snapshot())
    place.start_worker()
    monkeypatch.setattr(place.tail, "turns", None)
    before = [mended(source) for source in ("kafka", "lost")]
    await place.say("m3")
    assert [mended(source) for source in ("kafka", "lost")] == before


@pytest.mark.parametrize("when", ["after", "within"])
async def test_late_publication_is_mended_before_the_next_turn(place, monkeypatch, when):
    """m1 is stored, lost, missed by the mending, then published. m2 must not take its version."""
    await place.mender.look()
    publish, entered, go_on = place.inbox.publisher.publish, asyncio.Event(), asyncio.Event()

    async def publish_late(*arguments):
        entered.set()
        await go_on.wait()
        await publish(*arguments)

    monkeypatch.setattr(place.inbox.publisher, "publish", publish_late)
    first = asyncio.ensure_future(place.say("m1"))
    await entered.wait()
    if when == "within":  # the mending has read the published turns and has not finished
        behind = place.mender._behind

        async def slow_behind(published):
            go_on.set()
            await first
            return await behind(published)

        monkeypatch.setattr(place.mender, "_behind", slow_behind)
    await place.fail_over({})
    await place.mender.look()
    await place.mender._background
    go_on.set()
    await first
    place.inbox.live.check_out(ALICE)
    await place.say("m2")
    assert await place.replies() == [(1, "m1"), (2, "m2")]


async def test_partly_published_turn_runs_again_on_redelivery(place, monkeypatch):
    send = place.producer.send

    def send_no_events(topic, *arguments):
        if topic == DIALOGUE_EVENTS:
            raise QueueUnavailable("gone")
        return send(topic, *arguments)

    await place.say("m1")
    replica = await place.snapshot()
    with monkeypatch.context() as patch:
        patch.setattr(place.producer, "send", send_no_events)
        message = place.inbound("m2")
        turn = asyncio.ensure_future(place.inbox.process(message))
        while await place.store.marker(ALICE, "m2") is None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        await place.producer.send(ANSWERS, ALICE, await place.store.marker(ALICE, "m2"))
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
    await place.fail_over(replica)
    place.start_worker()
    await place.say("m2", "m3")
    assert await place.replies() == [(1, "m1"), (2, "m2"), (3, "m3")]
    assert (await place.store.load(ALICE)).version == 3


async def test_turns_lost_beyond_the_window_leave_a_gap(place, monkeypatch):
    """No sequence number is given twice."""
    monkeypatch.setattr(published, "MIN_RECORDS", 2)
    place.tail = PublishedTail(place.kafka, 0)
    await place.say("m1")
    replica = await place.snapshot()
    await place.say("m2", "m3", "m4")
    await place.fail_over(replica)
    place.start_worker()
    before = mended("lost")
    await place.say("m5")
    replies = await place.replies()
    assert [seq for seq, _ in replies] == sorted({seq for seq, _ in replies})
    assert replies[0] == (1, "m1") and replies[-1] == (5, "m5")
    assert (4, "m4") in replies and (2, "m2") not in replies
    assert (await place.store.load(ALICE)).version == 5
    assert mended("lost") > before


async def test_expired_conversation_is_not_restored(place, monkeypatch):
    monkeypatch.setattr(published, "CONVERSATION_LIFETIME_S", 5)
    await place.say("m1", "m2", "m3")
    await asyncio.sleep(5.1)
    for key in await place.snapshot():
        await place.client.delete(key)
    for message_id in ("m4", "m5"):
        place.start_worker()
        await place.say(message_id)
    assert await place.replies() == [(1, "m4"), (2, "m5")]
    assert (await place.store.load(ALICE)).version == 2


async def test_returning_partition_is_mended_again(place):
    await place.say("m1")
    place.mender.forget({place.partition})
    place.inbox.live.drop({place.partition})
    await place.fail_over({})
    await place.say("m2")
    assert await place.replies() == [(1, "m1"), (2, "m2")]


async def test_unmendable_conversation_does_not_stop_others(place):
    await place.say("m1")
    await place.say("n1", user="bob")
    await place.fail_over({})
    await place.client.set(place.store.keys(ALICE).turns, "not a list")
    place.start_worker()
    await place.say("n2", user="bob")
    assert await place.replies("bob") == [(1, "n1"), (2, "n2")]
