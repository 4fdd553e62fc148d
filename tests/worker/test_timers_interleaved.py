"""Reminders under random interleavings of two workers, deaths, redeliveries and moved partitions.

The real inbox, rules, index and scan work on a real Redis; Kafka is a list. Afterwards `judge` reads the
stored events: every reminder that stood when it was due fired once, and no other did.
"""

import asyncio
import contextvars
import random
from datetime import datetime, timezone

import orjson
import pytest
from rasa.shared.core.events import ActionExecuted, BotUttered, ReminderCancelled, ReminderScheduled

from kefu.codec import decode_inbox, encode
from kefu.events import USER_QUERY, ReminderDue, UserSaid
from kefu.worker.inbox.due_scan import DueScan
from kefu.worker.inbox.message import Inbound
from kefu.worker.inbox.protocol import Inbox
from kefu.worker.intake.records import Record, read
from kefu.worker.storage.due_index import DueIndex
from kefu.worker.turns.live import LiveConversations
from kefu.worker.turns.turn import Turn

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(240)]
START = 1_900_000_000_000
PARTITION = 2
STEPS = 60


def sets(name, after_ms, kill=False):
    def made(asked):
        at = datetime.fromtimestamp((asked + after_ms) / 1000, timezone.utc)
        return ReminderScheduled("thank", at, name=name, kill_on_user_message=kill)

    return made


def cancels(name=None):
    return lambda _: ReminderCancelled(name)


# The events that follow each of the customer's texts; times count from the text.
DOES = {
    "in two": [sets("a", 2_000)],
    "in six": [sets("a", 6_000)],
    "in three, if I'm silent": [sets("b", 3_000, kill=True)],
    "not that one": [cancels("a")],
    "none of them, but two others": [cancels(), sets("b", 5_000), sets("c", 1_000, kill=True)],
    "hello": [],
}
TEXTS = list(DOES)
STALLS = contextvars.ContextVar("stalls", default=False)


class Died(Exception):
    """The worker died between two steps."""


class World:
    """One conversation, its partition, and two workers, one of which owns the partition."""

    def __init__(self, seed, agent, conversations, parsed):
        self.chance = random.Random(seed)
        self.log, self.read_up_to, self.now, self.sent = [], 0, START, 0
        self.parsed, self.conversations, self.asked = parsed, conversations, {}
        self.index = DueIndex(conversations.servers)
        self.inboxes = [
            Inbox(agent.runner(10), conversations, LiveConversations(10), self, 2, 4, backoff=lambda _: 0.001)
            for _ in range(2)
        ]
        self.owner = 0
        self.assigned, self.inflight, self.served = [PARTITION], 0, 0
        self.scan = DueScan(self, self, self, lambda: False, lambda: self.now)

    # Kafka: records produced to the inbox are read from the log

    def send(self, topic, key, value, headers=None, partition=-1):
        if topic == USER_QUERY:
            self.log.append(value)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    # The index: its caller may die before it removes entries

    async def due(self, *arguments):
        return await self.index.due(*arguments)

    async def remove(self, entries):
        chance = self.chance.random()
        if chance < 0.3:
            raise Died
        if chance < 0.6:  # the inbox handles the sent timers, and more, before the entries are removed
            await self.take()
        await self.index.remove(entries)

    # Steps

    async def say(self):
        self.sent += 1
        said = UserSaid("demo", "alice", f"m{self.sent}", text=self.chance.choice(TEXTS), ts=START)
        self.asked[said.message_id] = self.now
        self.log.append(encode(said))

    async def wait(self):
        self.now += self.chance.choice((500, 1_000, 3_000))

    async def look(self):
        try:
            await self.scan.once()
        except Died:
            self.hand_over()

    async def take(self):
        """Let the owner handle the next events; now and then it dies before it commits."""
        for value in self.log[self.read_up_to :][: self.chance.randint(1, 3)]:
            await self.handle(self.owner, value)
            if self.chance.random() < 0.2:
                self.hand_over()
                return
            self.read_up_to += 1

    async def two_owners(self):
        """Let the other worker, with outdated trackers, begin the next message and end after the owner."""
        while len(self.log) < self.read_up_to + 3:
            await self.say()
        self.stalled, self.go_on = asyncio.Event(), asyncio.Event()
        slow = asyncio.ensure_future(self.handle(1 - self.owner, self.log[self.read_up_to], stalls=True))
        reached = asyncio.ensure_future(self.stalled.wait())
        await asyncio.wait([slow, reached], return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        await self.take()
        self.go_on.set()
        await slow

    async def decide(self, turn):
        """Apply the events of the customer's text in place of Rasa's decision, which is the same for any text."""
        if STALLS.get():
            self.stalled.set()
            await self.go_on.wait()
        asked = self.asked[turn.event.message_id]
        made = [does(asked) for does in DOES[turn.event.text]]
        done = [ActionExecuted("action_track_order"), BotUttered("done"), *made, ActionExecuted("action_listen")]
        for event in done:
            turn.live.tracker.update(event, turn.processor.domain)

    async def deliver_again(self):
        if self.read_up_to:
            await self.handle(self.owner, self.log[self.chance.randrange(self.read_up_to)])

    def hand_over(self):
        self.owner = 1 - self.owner
        self.inboxes[self.owner].live.drop({PARTITION})

    async def handle(self, worker, value, stalls=False):
        STALLS.set(stalls)
        record = Record("user.query", PARTITION, 0, b"demo:alice", value, [])
        said = read(record)
        parsed = None
        if type(said) is UserSaid:
            parsed = asyncio.get_running_loop().create_future()
            parsed.set_result(self.parsed[said.text])
        await self.inboxes[worker].process(Inbound(record, said, lambda: True, parsed))

    async def end(self):
        """Send every due timer and handle every event."""
        self.now += 10_000_000
        while self.read_up_to < len(self.log) or await self.index.due([PARTITION], self.now, 1):
            await self.look()
            await self.take()


def judge(turns, log, handled):
    """Read the stored turns; return the reminders that should have fired and did not, and the fired ones in order.

    A reminder set to a time whose event was already handled under its name need not fire: `handled` has
    the tracker version of each event's outcome.
    """
    dues = {event.id: event.due for event in map(decode_inbox, log) if type(event) is not UserSaid}
    standing, fired = {}, []
    for version, event in ((turn["v"], event) for turn in turns for event in turn["events"]):
        if event["event"] == "reminder":
            due = round(datetime.fromisoformat(event["date_time"]).timestamp() * 1000)
            past = handled.get(ReminderDue("demo", "alice", event["name"], due).id, version) < version
            standing[event["name"]] = (due, event["kill_on_user_msg"], past)
        elif event["event"] == "cancel_reminder":
            for name in [event["name"]] if event["name"] else list(standing):
                standing.pop(name, None)
        elif event["event"] == "user" and event["metadata"].get("is_external"):
            name = event["metadata"]["reminder"]
            assert name in standing, f"{name} fired and did not stand"
            assert dues[event["message_id"]] >= standing.pop(name)[0], f"{name} fired before it was due"
            fired.append(event["message_id"])
        elif event["event"] == "user":
            standing = {name: each for name, each in standing.items() if not each[1]}
    return [name for name, (_, _, past) in standing.items() if not past], fired


@pytest.fixture(scope="module")
def outcomes():
    """The number of fired reminders per run: runs in which none fires prove nothing."""
    counts = []
    yield counts
    assert sum(counts) > len(counts)


@pytest.mark.parametrize("seed", range(40))
async def test_standing_reminders_fire_once_and_no_others(seed, agent, conversations, outcomes, monkeypatch):
    of_timers = Turn._decide
    parsed = dict(zip(TEXTS, agent.processor.parse_batch("test", TEXTS), strict=True))
    world = World(seed, agent, conversations, parsed)

    async def decide(turn):
        await (world.decide(turn) if type(turn.event) is UserSaid else of_timers(turn))

    monkeypatch.setattr(Turn, "_decide", decide)
    await world.say()
    steps = [
        world.say,
        world.say,
        world.wait,
        world.look,
        world.take,
        world.take,
        world.two_owners,
        world.deliver_again,
    ]
    for _ in range(STEPS):
        await world.chance.choice(steps)()
    await world.end()

    redis = await conversations.servers.redis.holding("any")
    keys = conversations.keys("demo:alice")
    turns = [orjson.loads(turn) for turn in await redis.lrange(keys.turns, 0, -1)]
    events = [decode_inbox(value) for value in world.log]
    outcomes_of = {e.id: orjson.loads(await redis.get(keys.marker(e.message_id))) for e in events}
    handled = {id: outcome["tracker_version"] for id, outcome in outcomes_of.items()}
    left, fired = judge(turns, world.log, handled)
    assert left == []
    assert len(fired) == len(set(fired))
    outcomes.append(len(fired))
    replies = [orjson.loads(entry[b"r"]) for _, entry in await redis.xrange(keys.replies)]
    assert [reply["seq"] for reply in replies] == list(range(1, len(replies) + 1))
    assert {reply["message_id"] for reply in replies} >= set(fired)
