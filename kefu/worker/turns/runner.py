"""UNDERSTAND AND DECIDE: runs the turn of any event of the inbox on one model, in memory.

In: a live conversation and an event: a customer's message, a timer that is due, what the desk asks. Out: the outcome
that the inbox stores; for a timer that no longer stands and a refused event, a marker and nothing else.
"""

import asyncio
from typing import Any, Dict, List, Optional

from rasa.core.nlg import NaturalLanguageGenerator

from kefu import metrics
from kefu.events import (
    DESK_KINDS,
    DeskEvent,
    HandoffStarted,
    HandoffTaken,
    InboxEvent,
    ReminderDue,
    TimerDue,
    UserSaid,
    now_ms,
)
from kefu.worker.conversation import handoffs
from kefu.worker.conversation.stored import Arm
from kefu.worker.engine.processor import TurnProcessor
from kefu.worker.turns import handoff, outcome, timers
from kefu.worker.turns.live import LiveConversation
from kefu.worker.turns.offered import was_offered
from kefu.worker.turns.outcome import Outcome
from kefu.worker.turns.timers import Verdict
from kefu.worker.turns.turn import Turn, utterance_of

PAYLOAD_NOT_OFFERED = "payload_not_offered"
RESERVED_S = 0.5  # of the deadline, kept for storing and answering after Rasa had its time


class TurnRunner:
    """Runs turns on one model. A swap of the model makes a new runner."""

    def __init__(
        self,
        processor: TurnProcessor,
        nlg: NaturalLanguageGenerator,
        deadline_s: float,
        idle_s: float = 0,
        handoff_wait_s: float = 600,
    ) -> None:
        """Take the model to run on.

        Args:
            processor: Rasa, on the model.
            nlg: makes its responses.
            deadline_s: of a turn.
            idle_s: how long a silence may last, 0 for as long as it likes.
            handoff_wait_s: how long a customer waits for a person's next word.
        """
        self.processor = processor
        self._nlg = nlg
        self._budget_s = max(0.1, deadline_s - RESERVED_S)
        self._idle_ms = round(idle_s * 1000)
        self._wait_ms = round(handoff_wait_s * 1000)

    @property
    def model_id(self) -> str:
        """The id of the model that this runner serves."""
        return self.processor.model_metadata.model_id

    async def run(
        self,
        live: LiveConversation,
        event: InboxEvent,
        parsed: "Optional[asyncio.Future[Dict[str, Any]]]",
        begun: float,
    ) -> Outcome:
        """Run the turn of an event. Mutates `live`, which is good for nothing if this raises.

        Args:
            live: the conversation, as the store has it.
            event: of the inbox.
            parsed: what NLU makes of a customer's message; None for any other event, which has no words.
            begun: of the monotonic clock, in s; the deadline counts from here.
        """
        deadline = begun + self._budget_s
        if type(event) is UserSaid:
            assert parsed is not None  # NLU is asked about every message of a customer
            return await self._message(live, event, parsed, deadline)
        if isinstance(event, DESK_KINDS):
            return await self._desk(live, event, deadline)
        if type(event) is ReminderDue and event.name == handoffs.TIMER:
            return await self._unanswered(live, event, deadline)
        assert type(event) is not HandoffStarted  # `Inbox.process` ends before its turn
        return await self._timer(live, event, deadline)

    async def _message(
        self, live: LiveConversation, said: UserSaid, parsed: "asyncio.Future[Dict[str, Any]]", deadline: float
    ) -> Outcome:
        if said.payload is not None and not was_offered(live, said.payload):
            return self.refusal(live, said, PAYLOAD_NOT_OFFERED)
        turn = self._turn(live, said, said.channel, deadline)
        await turn.run(utterance_of(said, turn.heard_at), parsed)
        await handoff.settle(turn, self._wait_ms)
        return self._outcome(turn)

    async def _timer(self, live: LiveConversation, timer: TimerDue, deadline: float) -> Outcome:
        """Trigger the assistant with a timer's intent, if the timer still stands."""
        verdict = timers.judge(live, timer, self.processor, self._idle_ms)
        if verdict.intent is None:
            return self._dropped(live, timer, verdict)
        turn = self._turn(live, timer, _channel(live), deadline)
        await turn.run(timers.utterance_of(live, timer, verdict), timers.parsed(verdict))
        await handoff.settle(turn, self._wait_ms)
        events = turn.new_events()
        result = outcome.of_turn(turn, events, timers.reminder_arms(live, events))  # the silence has had its turn
        metrics.TIMERS_FIRED.labels(timer.type).inc()
        metrics.TIMER_LATE_SECONDS.labels(timer.type).observe(max(0, now_ms() - timer.due) / 1000)
        return result

    async def _desk(self, live: LiveConversation, event: DeskEvent, deadline: float) -> Outcome:
        """Do what the desk asks, if the conversation is the person's to have."""
        standing = handoffs.standing(live.tracker)
        why = handoff.refusal(standing, event)
        if why or standing is None:
            metrics.HANDOFFS.labels("refused").inc()
            return outcome.marked(live, event, self.model_id, status="refused", reason=why)
        if type(event) is HandoffTaken and standing.agent == event.agent:  # asked again under another id
            return outcome.marked(live, event, self.model_id)
        turn = self._turn(live, event, _channel(live), deadline)
        await handoff.act(turn, standing, event, self._wait_ms)
        return self._outcome(turn)

    async def _unanswered(self, live: LiveConversation, due: ReminderDue, deadline: float) -> Outcome:
        """Take the conversation back from a person who doesn't answer, if the customer still waits."""
        reminder, standing = timers.due_reminder(live, due), handoffs.standing(live.tracker)
        if isinstance(reminder, Verdict):
            return self._dropped(live, due, reminder)
        if standing is None:
            return self._dropped(live, due, Verdict(why="unknown"))
        turn = self._turn(live, due, _channel(live), deadline)
        await handoff.take_back(turn, standing)
        return self._outcome(turn)

    def refusal(self, live: LiveConversation, event: InboxEvent, reason: str) -> Outcome:
        """Return the outcome of an event that failed: a marker that says so, no events, no replies."""
        return outcome.marked(live, event, self.model_id, status="failed", reason=reason)

    def timers(self, live: LiveConversation) -> List[Arm]:
        """Return where to find all timers that stand of a conversation, and when."""
        return timers.standing_arms(live, self.processor.domain, self._idle_ms)

    def _turn(self, live: LiveConversation, event: InboxEvent, channel: str, deadline: float) -> Turn:
        return Turn(self.processor, self._nlg, live, event, channel, deadline)

    def _outcome(self, turn: Turn) -> Outcome:
        """Return the outcome of a turn after which the customer's silence counts."""
        events = turn.new_events()
        arms = timers.reminder_arms(turn.live, events)
        if self._idle_ms:
            arms += timers.silence_arms(turn.live, self.processor.domain, self._idle_ms)
        return outcome.of_turn(turn, events, arms)

    def _dropped(self, live: LiveConversation, timer: TimerDue, verdict: Verdict) -> Outcome:
        """Return a marker that says answered; a timer that was moved is found again."""
        metrics.TIMERS_DROPPED.labels(timer.type, verdict.why).inc()
        return outcome.marked(live, timer, self.model_id, timers.moved_arms(live, timer, verdict))


def _channel(live: LiveConversation) -> str:
    """Return the channel that the customer wrote by last."""
    return live.tracker.get_latest_input_channel() or "rest"
