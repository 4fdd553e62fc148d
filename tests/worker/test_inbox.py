"""One message's effects in the store and on Kafka, with failures between the steps."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest

from kefu.codec import encode
from kefu.errors import PoisonMessage, QueueUnavailable, RecordRefused, StoreUnavailable
from kefu.events import ANSWERS, DEAD_LETTERS, DIALOGUE_EVENTS, UserSaid
from kefu.worker.inbox.message import Inbound
from kefu.worker.inbox.patience import NotMine, Patience
from kefu.worker.inbox.protocol import Inbox
from kefu.worker.intake.lanes import Lanes
from kefu.worker.intake.records import Record, read
from kefu.worker.turns.live import LiveConversation, LiveConversations

pytestmark = pytest.mark.asyncio


class Sent:
    """Stand-in for Kafka: keeps the records sent. tests/e2e uses a real Kafka."""

    def __init__(self):
        self.records = []
        self.keys = []

    def send(self, topic, key, value, headers=None):
        self.records.append((topic, value, dict(headers or [])))
        self.keys.append(key)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def topics(self):
        return [topic for topic, _, _ in self.records]


@pytest.fixture
def sent():
    return Sent()


@pytest.fixture
def inbox(agent, conversations, sent):
    return Inbox(agent.runner(10), conversations, LiveConversations(10), sent, attempts=2, turns_at_once=4)


def inbound(inbox, text="hello", message_id="m1", mine=lambda: True, user="alice", **fields):
    said = UserSaid("demo", user, message_id, text=text, identified=True, **fields)
    parsed = asyncio.get_running_loop().create_future()
    parsed.set_result(inbox.runner.processor.parse_batch("test", [text])[0])
    return Inbound(Record("user.query", 3, 7, said.conversation.encode(), encode(said), []), said, mine, parsed)


async def test_message_delivered_twice_runs_once(inbox, sent, conversations):
    """Both deliveries publish the same records."""
    await inbox.process(inbound(inbox))
    first = list(sent.records)
    await inbox.process(inbound(inbox))
    again = sent.records[len(first) :]
    assert [orjson.loads(value)["id"] for _, value, _ in again] == [orjson.loads(value)["id"] for _, value, _ in first]
    assert sent.topics().count(ANSWERS) == 2 and DIALOGUE_EVENTS in sent.topics()
    assert (await conversations.load("demo:alice")).version == 1


async def test_turn_that_always_fails_becomes_a_dead_letter(inbox, sent, conversations, monkeypatch):
    """The letter names the message's origin. The next message is answered."""

    async def broken(*_):
        raise ValueError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(inbox.runner, "run", broken)
        await inbox.process(inbound(inbox))
    assert sent.topics() == [DEAD_LETTERS, ANSWERS]
    _, value, headers = sent.records[0]
    assert orjson.loads(value)["message_id"] == "m1"
    assert (headers["kefu-error-class"], headers["kefu-attempts"]) == (b"ValueError", b"2")
    assert (headers["kefu-origin-partition"], headers["kefu-origin-offset"]) == (b"3", b"7")
    assert orjson.loads(await conversations.marker("demo:alice", "m1"))["status"] == "failed"
    await inbox.process(inbound(inbox, message_id="m2"))
    assert orjson.loads(await conversations.marker("demo:alice", "m2"))["status"] == "answered"


async def test_backoff_of_one_conversation_delays_no_other(agent, conversations, sent, monkeypatch):
    """alice's turns always fail; bob's messages are in the same partition."""
    live = LiveConversations(10)
    inbox = Inbox(agent.runner(10), conversations, live, sent, attempts=2, turns_at_once=4, backoff=lambda _: 3600)
    run, done = inbox.runner.run, []

    async def broken_for_alice(live, said, *rest):
        if said.user == "alice":
            raise ValueError("a bug")
        return await run(live, said, *rest)

    async def serve(message):
        await inbox.process(message)
        done.append((message.event.user, message.event.message_id))

    monkeypatch.setattr(inbox.runner, "run", broken_for_alice)
    lanes = Lanes(serve)
    messages = [inbound(inbox, message_id=f"{user}{n}", user=user) for n in (1, 2) for user in ("alice", "bob")]
    for message in messages:
        lanes.put(message.event.conversation, message)
    deadline = asyncio.get_running_loop().time() + 20
    while len(done) < 2 or not messages[0].attempts:
        assert asyncio.get_running_loop().time() < deadline, done
        await asyncio.sleep(0.01)
    assert done == [("bob", "bob1"), ("bob", "bob2")]
    assert (messages[0].attempts, messages[2].attempts) == (1, 0), "alice's second message waits for her first"
    await lanes.cancel()


async def test_dead_letter_keeps_its_trace_and_key(inbox, sent):
    traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    message = inbound(inbox, traceparent=traced)
    patience = Patience(message.mine, inbox.waits)
    await inbox.publisher.put_aside(patience, message.record, "ValueError", 1, message.event.traceparent)
    assert sent.records[0][2]["traceparent"] == traced.encode()
    record = replace(message.record, key=b"\xff", headers=[("traceparent", b"as it came")])
    await inbox.reject(record, lambda: True, PoisonMessage("wrong_key", ""))
    assert (sent.keys[1], sent.records[1][2]["traceparent"]) == (b"\xff", b"as it came")


async def test_unsent_dead_letter_is_sent_at_the_next_delivery(inbox, sent, conversations):
    """The first worker died between the marker and the letter."""
    message = inbound(inbox)
    message.runner = inbox.runner
    live = LiveConversation("demo:alice", None, 0, 0)
    await conversations.write("demo:alice", inbox.runner.refusal(live, message.event, "internal_error").write)
    await inbox.process(message)
    assert sent.topics() == [DEAD_LETTERS, ANSWERS]


async def test_write_with_a_lost_acknowledgement_counts_once(inbox, sent, conversations, monkeypatch):
    write, lost = conversations.write, []

    async def write_and_lose_the_answer(*arguments):
        await write(*arguments)
        if not lost:
            lost.append(True)
            raise StoreUnavailable("TimeoutError")

    monkeypatch.setattr(conversations, "write", write_and_lose_the_answer)
    await inbox.process(inbound(inbox))
    assert (await conversations.load("demo:alice")).version == 1
    assert inbox.live.check_out("demo:alice").version == 1
    assert sent.topics().count(ANSWERS) == 1


async def test_slower_owner_publishes_the_stored_answer(agent, inbox, sent, conversations):
    """Two workers own the partition and run the same message."""
    other = Inbox(agent.runner(10), conversations, LiveConversations(10), sent, attempts=2, turns_at_once=4)
    for number in range(3):
        both = [inbound(inbox, message_id=f"m{number}") for _ in range(2)]
        await asyncio.gather(inbox.process(both[0]), other.process(both[1]))
    answers = {}
    for topic, value, _ in sent.records:
        if topic == ANSWERS:
            answer = orjson.loads(value)
            answers.setdefault(answer["message_id"], []).append([reply["seq"] for reply in answer["replies"]])
    assert all(seqs[0] == seqs[1] for seqs in answers.values())
    stored = await conversations.load("demo:alice")
    assert stored.version == 3


async def test_lost_writes_are_written_again_from_memory(inbox, conversations):
    for number in range(1, 4):
        await inbox.process(inbound(inbox, message_id=f"m{number}"))
    before = await conversations.load("demo:alice")
    keys = conversations.keys("demo:alice")
    redis = await conversations.servers.redis.holding(keys.state)
    await redis.delete(keys.state, keys.turns, keys.replies, *(keys.marker(f"m{n}") for n in (1, 2, 3)))
    await inbox.process(inbound(inbox, message_id="m4"))
    after = await conversations.load("demo:alice")
    assert (after.version, after.turns[:3]) == (4, before.turns)
    assert await conversations.marker("demo:alice", "m2") is not None


async def test_message_of_a_lost_partition_is_not_run(inbox, sent, conversations):
    with pytest.raises(NotMine):
        await inbox.process(inbound(inbox, mine=lambda: False))
    assert sent.records == []
    assert (await conversations.load("demo:alice")).version == 0


async def test_record_with_another_conversations_key_is_poison(inbox):
    record = inbound(inbox).record
    assert read(record).user == "alice"
    with pytest.raises(PoisonMessage):
        read(replace(record, key=b"demo:bob"))


async def test_unmasked_personal_data_is_masked_when_read(inbox):
    said = UserSaid("demo", "alice", "m1", text="call 13800001234")
    assert read(Record("user.query", 0, 0, b"demo:alice", encode(said), [])).text == "call *******1234"


async def test_oversized_dead_letter_is_cut(inbox, sent, monkeypatch):
    """Kafka refuses the record with its headers; its first 64 KiB are sent."""

    def send(topic, key, value, headers=None):
        done = Sent.send(sent, topic, key, value, headers)
        if len(value) > 100_000:
            sent.records.pop()
            done = asyncio.get_running_loop().create_future()
            done.set_exception(RecordRefused("MSG_SIZE_TOO_LARGE"))
        return done

    monkeypatch.setattr(sent, "send", send)
    record = Record("user.query", 3, 7, b"k", b"[" * 200_000, [("mine", b"x" * 1000)])
    await inbox.reject(record, lambda: True, PoisonMessage("not_json", "value is not JSON"))
    ((topic, value, headers),) = sent.records
    assert (topic, len(value), headers["kefu-cut-from"]) == (DEAD_LETTERS, 64 * 1024, b"200000")
    assert headers["kefu-error-class"] == b"not_json"


async def test_waiting_message_does_not_load_its_conversation(inbox, conversations, monkeypatch):
    """A backlog holds hundreds of messages, and a conversation can take megabytes."""
    loaded, go_on = [], asyncio.Event()
    load, run = conversations.load, inbox.runner.run

    async def counted(conversation):
        loaded.append(conversation)
        return await load(conversation)

    async def waiting(*arguments):
        await go_on.wait()
        return await run(*arguments)

    monkeypatch.setattr(conversations, "load", counted)
    monkeypatch.setattr(inbox.runner, "run", waiting)
    messages = [inbound(inbox, user=f"customer-{number}") for number in range(20)]
    turns = [asyncio.ensure_future(inbox.process(message)) for message in messages]
    deadline = asyncio.get_running_loop().time() + 20
    while len(loaded) < 4:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(loaded) == 4, "as many as there are places"
    go_on.set()
    await asyncio.gather(*turns)
    assert len(loaded) == 20


async def test_failed_attempt_counts_against_the_deadline(inbox, monkeypatch):
    left, run = [], inbox.runner.run

    async def late_and_broken(live, said, parsed, begun):
        left.append(time.monotonic() - begun)
        if len(left) == 1:
            await asyncio.sleep(0.3)
            raise ValueError("a bug")
        return await run(live, said, parsed, begun)

    monkeypatch.setattr(inbox.runner, "run", late_and_broken)
    await inbox.process(inbound(inbox))
    assert left[1] - left[0] > 0.2


async def test_turn_larger_than_a_kafka_record_is_not_stored(inbox, sent, conversations, monkeypatch):
    """The turn's message becomes a dead letter."""
    monkeypatch.setattr("kefu.worker.inbox.protocol.MAX_EVENTS_BYTES", 10)
    await inbox.process(inbound(inbox))
    assert sent.topics() == [DEAD_LETTERS, ANSWERS]
    assert sent.records[0][2]["kefu-error-class"] == b"TurnTooLarge"
    assert (await conversations.load("demo:alice")).turns == []


async def test_message_is_finished_by_the_model_it_began_with(agent, inbox, conversations):
    message = inbound(inbox)
    message.runner, inbox.runner = inbox.runner, SimpleNamespace(model_id="new")
    await inbox.process(message)
    assert orjson.loads(await conversations.marker("demo:alice", "m1"))["model_id"] == agent.model_id
    assert inbox.live.check_out("demo:alice") is None, "it would keep the old model in memory"


async def test_mending_a_partition_takes_no_place_from_others(agent, conversations, sent):
    class Mender:
        histories = frozenset()
        mended = asyncio.Event()

        def in_doubt(self, partition):
            return partition == 4 and not self.mended.is_set()

        async def settle(self, partition):
            await self.mended.wait()

        async def ensure(self, partition, history):
            return False

    mender = Mender()
    inbox = Inbox(agent.runner(10), conversations, LiveConversations(10), sent, 2, turns_at_once=2, mender=mender)
    new = [inbound(inbox, user=f"new-{number}") for number in range(4)]
    for message in new:
        message.record = replace(message.record, partition=4)
    waiting = [asyncio.ensure_future(inbox.process(message)) for message in new]
    await asyncio.sleep(0.05)
    await asyncio.wait_for(inbox.process(inbound(inbox)), 20)
    assert not any(each.done() for each in waiting)
    mender.mended.set()
    await asyncio.gather(*waiting)


async def test_kafka_outage_during_mending_is_not_a_redis_outage(agent, conversations, sent):
    """The inbox does not report its store as unavailable."""
    tries = []

    class Mender:
        histories = frozenset()

        def in_doubt(self, partition):
            return len(tries) < 2

        async def settle(self, partition):
            tries.append(inbox.store_away)
            if len(tries) < 3:
                raise QueueUnavailable("no leader")

        async def ensure(self, partition, history):
            return False

    inbox = Inbox(agent.runner(10), conversations, LiveConversations(10), sent, 2, turns_at_once=2, mender=Mender())
    await asyncio.wait_for(inbox.process(inbound(inbox)), 20)
    assert tries == [False] * 3
