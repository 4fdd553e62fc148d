"""A conversation with a person at the desk, for the tests of hand-overs."""

import time

from kefu.events import AgentSaid, HandoffEnded, HandoffTaken, ReminderDue, derived_id
from kefu.worker.conversation import handoffs
from kefu.worker.conversation.reminders import due_ms, reminders
from tests.worker.conftest import Chat

WAIT_S = 600


def desk_event(kind, handoff, agent, key, user="alice", **fields):
    """Return the event that the gateway makes of a desk request."""
    made = derived_id(kind.__name__, "demo", user, agent, key)
    return kind("demo", user, made, handoff, agent, **fields)


class Desk(Chat):
    """A conversation in memory that also runs the desk's turns."""

    def __init__(self, agent, wait_s=WAIT_S):
        super().__init__(agent)
        self.runner = agent.runner(10.0, 300, wait_s)
        self.asked = 0

    @property
    def handoff(self):
        return handoffs.standing(self.live.tracker)

    @property
    def timer(self):
        """The reminder of a waiting customer, None if the customer does not wait."""
        return reminders(self.live.tracker.events).standing.get(handoffs.TIMER)

    async def run(self, event):
        return self.take(await self.runner.run(self.live, event, None, time.monotonic()))

    async def desk(self, kind, agent="li.wei", handoff=None, **fields):
        self.asked += 1
        return await self.run(desk_event(kind, handoff or self.handoff.id, agent, f"k{self.asked}", **fields))

    async def taken(self, agent="li.wei", **fields):
        return await self.desk(HandoffTaken, agent, **fields)

    async def spoken(self, text, agent="li.wei", **fields):
        return await self.desk(AgentSaid, agent, text=text, **fields)

    async def ended(self, agent="li.wei", **fields):
        return await self.desk(HandoffEnded, agent, **fields)

    async def waited(self, after_ms=0):
        """Run the hand-over's timer `after_ms` after it was due."""
        return await self.run(ReminderDue("demo", "alice", handoffs.TIMER, due_ms(self.timer) + after_ms))


def said(outcome):
    """Return the responses that a turn gave."""
    return [event.metadata.get("utter_action") for event in outcome.events if event.type_name == "bot"]
