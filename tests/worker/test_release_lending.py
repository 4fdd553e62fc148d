"""Messages lent to a release's candidate: each is run once, by the candidate or the lender."""

import asyncio
import time

import orjson
import pytest

from kefu.codec import encode
from kefu.errors import QueueUnavailable
from kefu.events import ANSWERS, CANDIDATE_QUERY, DEAD_LETTERS, USER_QUERY, UserSaid
from kefu.worker.inbox.lending import LEND_S, LEND_SHARE, REST_S, Candidate
from kefu.worker.inbox.message import Inbound
from kefu.worker.inbox.protocol import Inbox
from kefu.worker.intake.records import Record, read
from kefu.worker.turns.live import LiveConversations
from tests.worker.tracks import tracks_of


class Wire:
    """Kafka between lender and candidate: a task processes each lent message at once, unless it is lost."""

    def __init__(self):
        self.records, self.candidate, self.tasks = [], None, []
        self.away = self.lost = self.stuck = False

    def send(self, topic, key, value, headers=None, partition=-1):
        if self.away and topic == CANDIDATE_QUERY:
            raise QueueUnavailable("away")
        if self.stuck and topic == CANDIDATE_QUERY:  # a partition without a leader
            return asyncio.get_running_loop().create_future()
        self.records.append((topic, value, partition))
        if topic == CANDIDATE_QUERY and not self.lost:
            record = Record("prefix." + topic, partition, 0, key, value, [])
            self.tasks.append(asyncio.ensure_future(self.candidate.process(inbound(self.candidate, record=record))))
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def of(self, topic):
        return [value for sent, value, _ in self.records if sent == topic]


def inbound(inbox, text="hello", message_id="m1", record=None):
    said = read(record) if record else UserSaid("demo", "alice", message_id, text=text, identified=True)
    parsed = asyncio.get_running_loop().create_future()
    parsed.set_result(inbox.runner.processor.parse_batch("test", [said.text])[0])
    record = record or Record("prefix." + USER_QUERY, 3, 7, said.conversation.encode(), encode(said), [])
    return Inbound(record, said, lambda: True, parsed)


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def pair(agent, conversations, wire, plan_file, clock):
    """The inbox of an active worker, which lends every message, and the inbox of the candidate."""
    path = plan_file("blue", percent=100)

    def make(track):
        tracks = tracks_of(conversations, track, path, clock)
        tracks.lends = lambda conversation: True
        candidate = Candidate(tracks, conversations, wire, deadline_s=2.0, most=3)
        live = LiveConversations(10)
        return Inbox(agent.runner(10), conversations, live, wire, attempts=2, turns_at_once=4, candidate=candidate)

    wire.candidate = make("green")
    return make("blue"), wire.candidate


@pytest.mark.asyncio
async def test_lent_message_is_run_by_the_candidate_alone(pair, wire, conversations):
    """Lender and candidate publish the same answer."""
    lender, candidate = pair
    lender.candidate._limit_s = 60.0
    runs = []
    for inbox in pair:
        real = inbox.runner.run
        inbox.runner.run = lambda *given, inbox=inbox, real=real: runs.append(inbox) or real(*given)
    await lender.process(inbound(lender))
    await asyncio.gather(*wire.tasks)
    assert runs == [candidate]
    assert [partition for topic, _, partition in wire.records if topic == CANDIDATE_QUERY] == [3]
    answers = wire.of(ANSWERS)
    assert len(answers) == 2 and len({orjson.loads(value)["id"] for value in answers}) == 1
    assert (await conversations.load("demo:alice")).version == 1


@pytest.mark.asyncio
async def test_conversation_stays_whole_while_tracks_alternate(pair, wire, conversations):
    """Every other message is lent."""
    lender, _ = pair
    gets = lender.candidate.gets
    for number, text in enumerate(["我的订单到哪了", "20260001", "hello", "我的订单到哪了", "20260001"]):
        lender.candidate.gets = gets if number % 2 else lambda *_: False
        await lender.process(inbound(lender, text, f"m{number}"))
    await asyncio.gather(*wire.tasks)
    stored = await conversations.load("demo:alice")
    assert stored.version == 5
    answers = {orjson.loads(value)["message_id"]: orjson.loads(value) for value in wire.of(ANSWERS)}
    numbers = [reply["seq"] for number in range(5) for reply in answers[f"m{number}"]["replies"]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert "track_order_form" in str(stored.turns[0]) and "SF1" in str(answers["m1"]) and "SF1" in str(answers["m4"])


@pytest.mark.asyncio
async def test_failed_lent_message_is_run_by_the_lender(pair, wire, conversations):
    """The candidate then gets no message for REST_S."""
    lender, candidate = pair

    async def broken(*_):
        raise ValueError("a bug")

    candidate.runner.run = broken
    await lender.process(inbound(lender))
    await asyncio.gather(*wire.tasks)
    assert orjson.loads(await conversations.marker("demo:alice", "m1"))["status"] == "answered"
    assert not wire.of(DEAD_LETTERS) and len(wire.of(ANSWERS)) == 1
    await lender.process(inbound(lender, message_id="m2"))
    assert len(wire.of(CANDIDATE_QUERY)) == 1, "one bad turn is enough for a while"


@pytest.mark.parametrize("trouble", ["lost", "away", "stuck"])
@pytest.mark.asyncio
async def test_message_that_misses_the_candidate_is_taken_back(pair, wire, conversations, trouble):
    lender, _ = pair
    setattr(wire, trouble, True)
    await lender.process(inbound(lender))
    assert orjson.loads(await conversations.marker("demo:alice", "m1"))["status"] == "answered"
    setattr(wire, trouble, False)
    lender.candidate._rests_until -= REST_S
    await lender.process(inbound(lender, message_id="m2"))
    await asyncio.gather(*wire.tasks)
    assert len(wire.of(ANSWERS)) == 3 and (await conversations.load("demo:alice")).version == 2


@pytest.mark.asyncio
async def test_lender_waits_only_briefly_for_a_stopped_candidate(pair, wire, conversations, monkeypatch):
    """A stop is no failure: the candidate does not have to rest."""
    monkeypatch.setattr("kefu.worker.inbox.lending.GONE_S", 0.05)
    lender, _ = pair
    lender.candidate._limit_s = 3600.0
    wire.lost = True
    processing = asyncio.ensure_future(lender.process(inbound(lender)))
    while not wire.of(CANDIDATE_QUERY):  # noqa: ASYNC110 - it is sent by what is tested
        await asyncio.sleep(0.01)
    lender.candidate._tracks.lends = lambda conversation: False
    await asyncio.wait_for(processing, 20)
    assert orjson.loads(await conversations.marker("demo:alice", "m1"))["status"] == "answered"
    lender.candidate._tracks.lends = lambda conversation: True
    assert lender.candidate.gets(inbound(lender).record, "demo:alice"), "it does not rest"


@pytest.mark.asyncio
async def test_silent_candidate_uses_only_part_of_the_deadline(pair, wire):
    lender, _ = pair
    wire.lost = True
    begun = {}
    run = lender.runner.run

    async def noting(live, said, parsed, at):
        begun["before"] = time.monotonic() - at
        return await run(live, said, parsed, at)

    lender.runner.run = noting
    await lender.process(inbound(lender))
    assert LEND_SHARE * 2.0 <= begun["before"] < 2.0, "the lender's own turn has what is left of its deadline"
    assert Candidate(None, None, None, deadline_s=60.0, most=1)._limit_s == LEND_S


@pytest.mark.asyncio
async def test_number_of_lent_messages_is_bounded(pair, wire, conversations):
    lender, _ = pair
    wire.lost = True
    customers = [UserSaid("demo", f"u{number}", "m1", text="hello", identified=True) for number in range(5)]
    records = [Record(USER_QUERY, 3, 7, said.conversation.encode(), encode(said), []) for said in customers]
    await asyncio.gather(*(lender.process(inbound(lender, record=record)) for record in records))
    assert len(wire.of(CANDIDATE_QUERY)) == 3, "the others are done at once"
    assert len(wire.of(ANSWERS)) == 5
    lender.candidate._rests_until -= REST_S
    wire.lost = False
    await lender.process(inbound(lender, message_id="m2"))
    assert len(wire.of(CANDIDATE_QUERY)) == 4, "the places are free again"
    await asyncio.gather(*wire.tasks)


@pytest.mark.asyncio
async def test_late_candidate_finds_the_message_done(pair, wire, conversations):
    lender, candidate = pair
    wire.lost = True
    message = inbound(lender)
    await lender.process(message)
    late = Record("prefix." + CANDIDATE_QUERY, 3, 0, message.record.key, message.record.value, [])
    await candidate.process(inbound(candidate, record=late))
    assert (await conversations.load("demo:alice")).version == 1
    assert len({orjson.loads(value)["id"] for value in wire.of(ANSWERS)}) == 1
