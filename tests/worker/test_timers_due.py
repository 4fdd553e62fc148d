"""The index of due times and its scan on a real Redis, and timers in the inbox."""

import asyncio

import orjson
import pytest

from kefu import metrics
from kefu.codec import encode
from kefu.errors import QueueUnavailable, StoreUnavailable
from kefu.events import ANSWERS, DEAD_LETTERS, USER_QUERY, ReminderDue, SessionIdled, UserSaid, now_ms
from kefu.keys import due_entry
from kefu.settings import RedisSettings
from kefu.worker.conversation.stored import Arm, TurnWrite
from kefu.worker.inbox.due_scan import BATCH, MOST, SHARE, TRICKLE, DueScan
from kefu.worker.inbox.message import Inbound
from kefu.worker.inbox.protocol import Inbox
from kefu.worker.intake.records import Record, read
from kefu.worker.storage.conversations import Conversations
from kefu.worker.storage.due_index import DueIndex
from kefu.worker.turns.live import LiveConversations
from ops.local.servers import RedisServer, free_port

pytestmark = pytest.mark.asyncio
ALICE = "demo:alice"
NOW = 1_800_000_000_000
PARTITION = 3


class Sent:
    """Stand-in for Kafka: keeps the records sent, or is unavailable. tests/e2e uses a real Kafka."""

    def __init__(self):
        self.records = []
        self.away = False

    def send(self, topic, key, value, headers=None, partition=-1):
        if self.away:
            raise QueueUnavailable(topic)
        self.records.append((topic, key, value))
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def of(self, topic):
        return [orjson.loads(value) for name, _, value in self.records if name == topic]


class Look:
    """A worker's scan for due timers, with circumstances that the test sets."""

    def __init__(self, index, sent):
        self.assigned, self.inflight, self.served, self.away, self.now = [PARTITION], 0, 0, False, NOW
        self.scan = DueScan(index, sent, self, lambda: self.away, lambda: self.now)


@pytest.fixture
def sent():
    return Sent()


@pytest.fixture
def index(conversations):
    return DueIndex(conversations.servers)


@pytest.fixture
def look(index, sent):
    return Look(index, sent)


def write(number, *arms, conversation=ALICE):
    return conversation, TurnWrite(f"m{number}", number - 1, 0, [{"event": "x"}], b"marker", [], arms=arms)


def arm(due, name=None, conversation=ALICE, partition=PARTITION):
    return Arm(partition, due_entry(conversation, name), due)


async def left(index, partition=PARTITION):
    return [(due.member.decode(), due.due) for due in await index.due([partition], 2 * NOW, 1000)]


async def test_turn_and_its_timers_are_stored_together(conversations, index):
    await conversations.write(*write(1, arm(NOW), arm(NOW + 5, "call back")))
    assert await left(index) == [("idle demo:alice", NOW), ("reminder demo:alice call back", NOW + 5)]
    assert (await conversations.load(ALICE)).version == 1


async def test_failed_write_leaves_no_timer_without_an_entry(conversations, index):
    """The write may leave an entry of the index without a timer. The repeated write stores both."""
    redis = await conversations.servers.redis.holding("any")
    await redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable):
            await conversations.write(*write(1, arm(NOW)))
    finally:
        await redis.config_set("maxmemory", "0")
    await conversations.write(*write(1, arm(NOW)))
    assert await left(index) == [("idle demo:alice", NOW)]


async def test_timer_armed_again_moves_its_entry_in_the_index(conversations, index):
    for number, due in enumerate((NOW + 9, NOW + 1, NOW + 5), 1):
        await conversations.write(*write(number, arm(due)))
    assert await left(index) == [("idle demo:alice", NOW + 5)]


async def test_due_timers_go_to_the_inbox_and_leave_the_index(conversations, index, look, sent):
    await conversations.write(*write(1, arm(NOW), arm(NOW, "call back"), arm(NOW + 1, "later")))
    await look.scan.once()
    assert {(e["type"], e["due"]) for e in sent.of(USER_QUERY)} == {("SessionIdled", NOW), ("ReminderDue", NOW)}
    assert {key for _, key, _ in sent.records} == {ALICE}
    assert await left(index) == [("reminder demo:alice later", NOW + 1)]
    look.now += 1
    await look.scan.once()
    assert [event["name"] for event in sent.of(USER_QUERY) if event["due"] == NOW + 1] == ["later"]


async def test_unacknowledged_timer_is_sent_again_with_the_same_id(conversations, index, look, sent):
    """Kafka did not acknowledge a due timer, so it stays in the index and is sent again under the same event id."""
    await conversations.write(*write(1, arm(NOW)))
    sent.away = True
    with pytest.raises(QueueUnavailable):
        await look.scan.once()
    assert await left(index) == [("idle demo:alice", NOW)]
    sent.away = False
    await look.scan.once()
    await conversations.write(*write(2, arm(NOW)))  # as if the worker had died before it removed the entry
    await look.scan.once()
    assert len({event["id"] for event in sent.of(USER_QUERY)}) == 1
    assert len(sent.of(USER_QUERY)) == 2


async def test_timer_armed_again_while_it_is_sent_keeps_its_entry(conversations, index, look, sent):
    await conversations.write(*write(1, arm(NOW)))
    (due,) = await index.due([PARTITION], NOW, 10)
    await conversations.write(*write(2, arm(NOW + 7)))
    await index.remove([due])
    assert await left(index) == [("idle demo:alice", NOW + 7)]


async def test_timer_scan_covers_only_the_workers_partitions(conversations, index, look, sent):
    await conversations.write(*write(1, arm(NOW, partition=5)))
    for look.assigned in ([], [PARTITION]):
        await look.scan.once()
    assert sent.records == []
    look.assigned = [PARTITION, 5]
    await look.scan.once()
    assert len(sent.records) == 1


async def test_partition_lost_during_a_scan_is_left_alone(conversations, index, look, sent):
    await conversations.write(*write(1, arm(NOW)))
    look.scan._index = Leaving(index, look)
    await look.scan.once()
    assert sent.records == []
    assert await left(index) == [("idle demo:alice", NOW)]


class Leaving:
    """An index whose partitions belong to another worker by the time it answers."""

    def __init__(self, index, look):
        self._index, self._look = index, look

    async def due(self, *arguments):
        entries = await self._index.due(*arguments)
        self._look.assigned = []
        return entries


async def test_worker_that_takes_no_messages_does_not_scan(conversations, look, sent):
    await conversations.write(*write(1, arm(NOW)))
    look.away = True
    await look.scan.once()
    assert sent.records == []


async def test_thousands_of_due_timers_are_sent_in_portions(conversations, index, look, sent):
    """The portions are smaller while customers write."""
    for part in range(3):
        arms = [arm(NOW - n, conversation=f"demo:c{part}-{n}", partition=part) for n in range(1000)]
        await conversations.write(*write(1, *arms, conversation=f"demo:w{part}"))
    look.assigned = [0, 1, 2]
    assert await look.scan.once() is True
    assert len(sent.records) == BATCH
    assert all(event["due"] <= NOW - 990 for event in sent.of(USER_QUERY)), "the oldest first"
    look.inflight = BATCH
    for served, more in ((0, TRICKLE), (SHARE * 20, 20), (100_000, MOST)):
        before = len(sent.records)
        look.served += served
        await look.scan.once()
        assert len(sent.records) - before == more
    look.inflight = 0
    while await look.scan.once():
        pass
    assert len({event["id"] for event in sent.of(USER_QUERY)}) == len(sent.records) == 3000


async def test_unreadable_entry_is_counted_and_dropped(conversations, index, look, sent):
    dropped = metrics.TIMERS_DROPPED.labels("unknown", "malformed")
    before = dropped._value.get()
    await conversations.write(*write(1, Arm(PARTITION, "nonsense", NOW - 1), arm(NOW)))
    await look.scan.once()
    assert [event["type"] for event in sent.of(USER_QUERY)] == ["SessionIdled"]
    assert dropped._value.get() == before + 1
    assert await left(index) == []


async def test_scan_and_index_survive_a_restart_of_redis(tmp_path, sent):
    server = RedisServer(tmp_path, free_port())
    server.start()
    server.wait_ready(20)
    store = Conversations(RedisSettings(url=server.url, key_prefix="away"))
    look = Look(DueIndex(store.servers), sent)
    try:
        await store.write(*write(1, arm(NOW)))
        server.stop()
        with pytest.raises(StoreUnavailable):
            await look.scan.once()
        look.scan.start()
        server.start()
        await asyncio.wait_for(something(sent), 30)
        assert look.scan.failure is None
    finally:
        await look.scan.stop()
        await store.close()
        server.stop()


async def something(sent):
    while not sent.records:  # noqa: ASYNC110 - a list has no event
        await asyncio.sleep(0.05)


async def test_failed_timer_scan_reports_its_error(look):
    look.scan._index = None
    look.scan.start()
    for _ in range(400):
        if look.scan.failure:
            break
        await asyncio.sleep(0.01)
    assert look.scan.failure == "AttributeError"


# Through the inbox


@pytest.fixture
def inbox(agent, conversations, sent):
    return inbox_of(agent, conversations, sent)


def inbox_of(agent, conversations, sent):
    return Inbox(agent.runner(10, 300), conversations, LiveConversations(10), sent, attempts=2, turns_at_once=4)


def inbound(event, inbox=None):
    record = Record("user.query", PARTITION, 7, event.conversation.encode(), encode(event), [])
    parsed = None
    if type(event) is UserSaid:
        parsed = asyncio.get_running_loop().create_future()
        parsed.set_result(inbox.runner.processor.parse_batch("test", [event.text])[0])
    return Inbound(record, read(record), lambda: True, parsed)


async def ask(inbox, number=1, text="track my order"):
    await inbox.process(inbound(UserSaid("demo", "alice", f"m{number}", text=text), inbox))


async def armed(index, moment=None):
    (due,) = await index.due([PARTITION], moment or 2 * now_ms(), 10)
    return due.event


async def test_silence_delivered_again_is_asked_about_once(agent, conversations, index, inbox, sent):
    """One worker gets it twice, another worker once."""
    await ask(inbox)
    event = await armed(index)
    for each in (inbox, inbox, inbox_of(agent, conversations, sent)):
        await each.process(inbound(event))
    answers = [answer for answer in sent.of(ANSWERS) if answer["message_id"] == event.id]
    assert len(answers) == 3 and len({answer["id"] for answer in answers}) == 1
    assert [reply["seq"] for reply in answers[0]["replies"]] == [2, 3]  # "Are you still there?" and the form's question
    redis = await conversations.servers.redis.holding("any")
    replies = [orjson.loads(fields[b"r"]) for _, fields in await redis.xrange(conversations.keys(ALICE).replies)]
    assert [(reply["seq"], reply["message_id"]) for reply in replies] == [(1, "m1"), (2, event.id), (3, event.id)]


async def test_outdated_silence_leaves_only_a_marker(conversations, index, inbox, sent):
    await ask(inbox)
    event = await armed(index)
    await asyncio.sleep(0.01)
    await ask(inbox, 2)
    before = await conversations.load(ALICE)
    await inbox.process(inbound(event))
    after = await conversations.load(ALICE)
    assert (after.turns, after.seq, after.version) == (before.turns, before.seq, before.version + 1)
    marker = orjson.loads(await conversations.marker(ALICE, event.id))
    assert (marker["status"], marker["replies"]) == ("answered", [])
    await ask(inbox, 3)
    assert (await conversations.load(ALICE)).version == after.version + 1


@pytest.mark.parametrize(
    "event", [ReminderDue("demo", "alice", "call back", NOW), SessionIdled("demo", "alice", NOW)], ids=lambda e: e.type
)
async def test_timer_does_not_revive_an_expired_conversation(conversations, inbox, sent, event):
    await inbox.process(inbound(event))
    assert (await conversations.load(ALICE)).version == 0
    assert await conversations.marker(ALICE, event.id) is None
    assert sent.records == []


async def test_timer_that_always_fails_becomes_a_dead_letter(conversations, index, inbox, sent, monkeypatch):
    await ask(inbox)
    event = await armed(index)

    async def broken(*_):
        raise ValueError("a bug")

    monkeypatch.setattr(inbox.runner, "run", broken)
    await inbox.process(inbound(event))
    assert [letter["id"] for letter in sent.of(DEAD_LETTERS)] == [event.id]
    assert orjson.loads(await conversations.marker(ALICE, event.id))["status"] == "failed"


async def test_lost_writes_are_mended_with_their_timers(conversations, index, inbox):
    for number in range(1, 4):
        await ask(inbox, number)
    event = await armed(index)
    redis = await conversations.servers.redis.holding("any")
    keys = conversations.keys(ALICE)
    await redis.delete(keys.state, keys.turns, keys.replies, *(keys.marker(f"m{n}") for n in (1, 2, 3)))
    await redis.delete(f"{conversations._settings.key_prefix}:due:{{{PARTITION}}}")
    await ask(inbox, 4, "hello")  # this turn arms too: the entry must be no earlier than the lost one
    assert (await armed(index)).due >= event.due
