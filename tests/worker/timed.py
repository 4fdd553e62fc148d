"""A conversation with timers, for the tests of silence and reminders."""

import time
from datetime import datetime, timezone

import orjson
from rasa.shared.core.events import (
    ReminderScheduled,
)

from kefu.events import ReminderDue, SessionIdled
from kefu.worker.conversation import reminders
from tests.worker.conftest import Chat

IDLE_S = 300
IDLE_MS = IDLE_S * 1000
SOON = datetime(2030, 1, 1, 12, 0, tzinfo=timezone.utc)


class TimedChat(Chat):
    """A conversation whose timers fall due when the test says so."""

    def __init__(self, agent, idle_s=IDLE_S):
        super().__init__(agent)
        self.runner = agent.runner(10.0, idle_s)
        self.domain = agent.domain

    async def due(self, timer):
        outcome = self.take(await self.runner.run(self.live, timer, None, time.monotonic()))
        stored = orjson.loads(outcome.write.marker)
        assert (stored["message_id"], stored["cause"], stored["status"]) == (timer.id, timer.id, "answered")
        return outcome

    async def silent(self, after_ms=IDLE_MS, **fields):
        since = reminders.silence(self.live.tracker.events).since
        return await self.due(SessionIdled("demo", "alice", since + after_ms, **fields))

    async def reminded(self, name="r", due=SOON):
        return await self.due(ReminderDue("demo", "alice", name, round(due.timestamp() * 1000)))

    def put(self, *events):
        """Put events on the tracker, as an action of the turn before would."""
        for event in events:
            self.live.tracker.update(event, self.domain)


def reminder(name="r", due=SOON, intent="goodbye", **fields):
    return ReminderScheduled(intent, due, name=name, **fields)


def said(outcome):
    return [event.metadata.get("utter_action") for event in outcome.events if event.type_name == "bot"]


def nothing(outcome):
    return outcome.events == [] and outcome.write.replies == [] and outcome.write.events == []
