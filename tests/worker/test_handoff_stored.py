"""Hand-overs through the inbox, on a real Redis: repetitions, rival agents and workers, lost writes."""

import asyncio

import orjson
import pytest

from kefu.codec import decode
from kefu.events import (
    ANSWERS,
    DIALOGUE_EVENTS,
    USER_QUERY,
    AgentSaid,
    HandoffEnded,
    HandoffStarted,
    HandoffTaken,
    ReminderDue,
)
from kefu.keys import desk_index
from kefu.worker.conversation import handoffs
from kefu.worker.conversation.stored import handoff_change
from kefu.worker.storage.due_index import DueIndex
from kefu.worker.storage.published import _write
from tests.worker.handing import desk_event
from tests.worker.test_timers_due import ALICE, PARTITION, Sent, ask, inbound, inbox_of

pytestmark = pytest.mark.asyncio
A_PERSON = "I want to talk to a human agent"


@pytest.fixture
def sent():
    return Sent()


@pytest.fixture
def inbox(agent, conversations, sent):
    return inbox_of(agent, conversations, sent)


@pytest.fixture
async def redis(conversations):
    return await conversations.servers.redis.holding("any")


async def handed_over(inbox, conversations, number=1):
    """Hand alice's conversation over by her message `number`; return the hand-over's id."""
    await ask(inbox, number, A_PERSON)
    return (await state(conversations))["id"]


async def state(conversations):
    """Return the stored hand-over of alice's conversation, None without one."""
    redis = await conversations.servers.redis.holding("any")
    handoff = await redis.hget(conversations.keys(ALICE).state, "handoff")
    return orjson.loads(handoff) if handoff else None


async def listed(conversations):
    redis = await conversations.servers.redis.holding("any")
    return await redis.zrange(desk_index(conversations._settings.key_prefix, "demo"), 0, -1)


async def desk(inbox, event):
    await inbox.process(inbound(event))


async def outcome(conversations, event):
    return orjson.loads(await conversations.marker(ALICE, event.id))


async def replies(conversations):
    redis = await conversations.servers.redis.holding("any")
    entries = await redis.xrange(conversations.keys(ALICE).replies)
    return [orjson.loads(fields[b"r"]) for _, fields in entries]


async def test_hand_over_is_listed_and_its_record_published(inbox, conversations, sent):
    handoff = await handed_over(inbox, conversations)
    stored = await state(conversations)
    assert (stored["status"], stored["agent"], stored["summary"]["asked"]) == ("waiting", None, A_PERSON)
    assert await listed(conversations) == [b"alice"]
    (record,) = [decode(value, HandoffStarted) for topic, _, value in sent.records if topic == USER_QUERY]
    assert (record.id, record.summary) == (handoff, stored["summary"])


async def test_repeated_message_publishes_the_same_record(inbox, conversations, sent):
    """The message started the hand-over."""
    await handed_over(inbox, conversations)
    first = list(sent.records)
    await ask(inbox, 1, A_PERSON)
    again = sent.records[len(first) :]
    assert [_named(each) for each in again] == [_named(each) for each in first]


def _named(sent):
    topic, key, value = sent
    return topic, key, orjson.loads(value)["id"]


async def test_inbox_ignores_its_own_hand_over_record(inbox, conversations, sent):
    await handed_over(inbox, conversations)
    (record,) = [value for topic, _, value in sent.records if topic == USER_QUERY]
    before, count = await conversations.load(ALICE), len(sent.records)
    await desk(inbox, decode(record, HandoffStarted))
    after = await conversations.load(ALICE)
    assert (after.version, len(sent.records)) == (before.version, count)


async def test_agent_message_sent_twice_is_one_reply(agent, inbox, conversations, sent):
    """The repetition has the same id, other words, and may reach another worker."""
    handoff = await handed_over(inbox, conversations)
    await desk(inbox, desk_event(HandoffTaken, handoff, "li.wei", "k1"))
    first, again = (desk_event(AgentSaid, handoff, "li.wei", "k2", text=text) for text in ("hello", "other words"))
    for each in (inbox, inbox, inbox_of(agent, conversations, sent)):
        await desk(each, first)
        await desk(each, again)
    stored = await replies(conversations)
    assert [reply["seq"] for reply in stored] == [1, 2, 3]
    assert [reply["text"] for reply in stored if reply["message_id"] == first.id] == ["hello"]
    answers = [answer for answer in sent.of(ANSWERS) if answer["message_id"] == first.id]
    assert len(answers) == 6 and len({answer["id"] for answer in answers}) == 1


async def test_one_of_two_agents_takes_a_hand_over(agent, inbox, conversations, sent):
    """Two workers process the requests at once. The outcome survives a restart."""
    for number in range(3):
        handoff = await handed_over(inbox, conversations, number)
        rivals = [desk_event(HandoffTaken, handoff, name, handoff) for name in ("li.wei", "zhang.min")]
        other = inbox_of(agent, conversations, sent)
        await asyncio.gather(desk(inbox, rivals[0]), desk(other, rivals[1]))
        outcomes = [await outcome(conversations, each) for each in rivals]
        assert sorted(each["status"] for each in outcomes) == ["answered", "refused"]
        winner = next(event for event, each in zip(rivals, outcomes, strict=True) if each["status"] == "answered")
        assert (await state(conversations))["agent"] == winner.agent
        fresh = inbox_of(agent, conversations, sent)  # as after a restart of all workers
        for each in rivals:
            await desk(fresh, each)
        assert [await outcome(conversations, each) for each in rivals] == outcomes
        await desk(fresh, desk_event(HandoffEnded, handoff, winner.agent, handoff))


async def test_ended_hand_over_leaves_the_desk(inbox, conversations):
    """A late message of the agent does not reach the customer."""
    handoff = await handed_over(inbox, conversations)
    await desk(inbox, desk_event(HandoffTaken, handoff, "li.wei", "k1"))
    await desk(inbox, desk_event(HandoffEnded, handoff, "li.wei", "k2"))
    assert await state(conversations) is None
    assert await listed(conversations) == []
    before = await replies(conversations)
    late = desk_event(AgentSaid, handoff, "li.wei", "k3", text="one more thing")
    await desk(inbox, late)
    refusal = await outcome(conversations, late)
    assert (refusal["status"], refusal["reason"], refusal["replies"]) == ("refused", handoffs.ENDED, [])
    assert await replies(conversations) == before


async def test_hand_over_survives_worker_restarts(agent, inbox, conversations, sent):
    """Messages of the customer in between are stored."""
    handoff = await handed_over(inbox, conversations)
    await ask(inbox_of(agent, conversations, sent), 2, "hello?")
    after = inbox_of(agent, conversations, sent)
    await desk(after, desk_event(HandoffTaken, handoff, "li.wei", "k1"))
    await ask(inbox_of(agent, conversations, sent), 3, "there you are")
    assert (await state(conversations))["agent"] == "li.wei"
    stored = await conversations.load(ALICE)
    heard = [event["text"] for turn in stored.turns for event in turn if event["event"] == "user"]
    assert heard == [A_PERSON, "hello?", "there you are"]
    causes = [reply["message_id"] for reply in await replies(conversations)]
    assert len(causes) == 2 and causes[0] == "m1", "the assistant was silent"


async def test_unanswered_hand_over_ends_once(agent, inbox, conversations, sent):
    await handed_over(inbox, conversations)
    (due,) = await DueIndex(conversations.servers).due([PARTITION], 2_000_000_000_000, 10)
    assert isinstance(due.event, ReminderDue)
    await desk(inbox_of(agent, conversations, sent), due.event)
    assert await state(conversations) is None and await listed(conversations) == []
    await desk(inbox, due.event)
    assert len(await replies(conversations)) == 2


async def test_desk_request_does_not_revive_an_expired_conversation(inbox, conversations, sent):
    event = desk_event(HandoffTaken, "0" * 32, "li.wei", "k1")
    await desk(inbox, event)
    assert (await conversations.load(ALICE)).version == 0
    assert await conversations.marker(ALICE, event.id) is None
    assert sent.records == []


async def test_lost_hand_over_is_mended_for_the_desk(inbox, conversations, redis):
    handoff = await handed_over(inbox, conversations)
    request = desk_event(HandoffTaken, handoff, "li.wei", "k1")
    await desk(inbox, request)
    before, keys = await state(conversations), conversations.keys(ALICE)
    await redis.delete(keys.state, keys.turns, keys.replies, keys.marker("m1"), keys.marker(request.id))
    await redis.delete(desk_index(conversations._settings.key_prefix, "demo"))
    await ask(inbox, 2, "hello?")
    assert await state(conversations) == before
    assert await listed(conversations) == [b"alice"]


async def test_published_turn_gives_the_stored_hand_over(inbox, conversations, sent):
    await handed_over(inbox, conversations)
    by_topic = {topic: value for topic, _, value in sent.records}
    again = _write([by_topic[ANSWERS]], [orjson.loads(by_topic[DIALOGUE_EVENTS])["events"]])
    assert orjson.loads(handoff_change(again.events)) == await state(conversations)


async def test_agent_message_is_masked_before_the_tracker(inbox, conversations):
    handoff = await handed_over(inbox, conversations)
    await desk(inbox, desk_event(HandoffTaken, handoff, "li.wei", "k1"))
    await desk(inbox, desk_event(AgentSaid, handoff, "li.wei", "k2", text="call 13800001234 or a@example.com"))
    assert (await replies(conversations))[-1]["text"] == "call *******1234 or [email]"
    stored = await conversations.load(ALICE)
    assert "13800001234" not in str(stored.turns)
