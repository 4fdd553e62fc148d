"""UNDERSTAND AND DECIDE: runs the turn of any event of the inbox on one model, in memory.

In: a live conversation and an event: a customer's message, a due timer or an event of the desk. Out: the outcome that
the inbox stores. For a timer that was cancelled meanwhile and for a refused event, the outcome is only a marker.
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
RESERVED_S = 0.5  # the part of the deadline that Rasa may not use: it is kept for storing and publishing the turn


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
        """Create a runner of turns on one model.

        Args:
            processor: Rasa with the model loaded.
            nlg: makes the model's responses.
            deadline_s: how long a turn may take, with its storing and publishing.
            idle_s: how long a customer may be silent before the assistant speaks; 0 for no limit.
            handoff_wait_s: how long a customer waits for a person's next message.
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
        """Run the turn of an event. Changes `live`; if this raises, discard `live`.

        Args:
            live: the conversation, as the store has it.
            event: of the inbox.
            parsed: NLU's result for a customer's message; None for any other event, which has no text.
            begun: the start of the deadline, by the monotonic clock in s.
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
        """Run the turn of a timer's intent, if the timer is still set."""
        verdict = timers.judge(live, timer, self.processor, self._idle_ms)
        if verdict.intent is None:
            return self._dropped(live, timer, verdict)
        turn = self._turn(live, timer, _channel(live), deadline)
        await turn.run(timers.utterance_of(live, timer, verdict), timers.parsed(verdict))
        await handoff.settle(turn, self._wait_ms)
        events = turn.new_events()
        # No new timer for the customer's silence: a timer's turn doesn't end the silence.
        result = outcome.of_turn(turn, events, timers.reminder_arms(live, events))
        metrics.TIMERS_FIRED.labels(timer.type).inc()
        metrics.TIMER_LATE_SECONDS.labels(timer.type).observe(max(0, now_ms() - timer.due) / 1000)
        return result

    async def _desk(self, live: LiveConversation, event: DeskEvent, deadline: float) -> Outcome:
        """Apply a desk event, if its hand-over is the current one and this agent may send the event."""
        standing = handoffs.standing(live.tracker)
        why = handoff.refusal(standing, event)
        if why or standing is None:
            metrics.HANDOFFS.labels("refused").inc()
            return outcome.marked(live, event, self.model_id, status="refused", reason=why)
        if type(event) is HandoffTaken and standing.agent == event.agent:  # the same request again, under a new id
            return outcome.marked(live, event, self.model_id)
        turn = self._turn(live, event, _channel(live), deadline)
        await handoff.act(turn, standing, event, self._wait_ms)
        return self._outcome(turn)

    async def _unanswered(self, live: LiveConversation, due: ReminderDue, deadline: float) -> Outcome:
        """Give the conversation back to the assistant, if the customer still waits for the agent's answer."""
        reminder, standing = timers.due_reminder(live, due), handoffs.standing(live.tracker)
        if isinstance(reminder, Verdict):
            return self._dropped(live, due, reminder)
        if standing is None:
            return self._dropped(live, due, Verdict(why="unknown"))
        turn = self._turn(live, due, _channel(live), deadline)
        await handoff.take_back(turn, standing)
        return self._outcome(turn)

    def refusal(self, live: LiveConversation, event: InboxEvent, reason: str) -> Outcome:
        """Return the outcome of a failed event: a marker with status `failed`, without events and replies."""
        return outcome.marked(live, event, self.model_id, status="failed", reason=reason)

    def timers(self, live: LiveConversation) -> List[Arm]:
        """Return the index entries of all standing timers of a conversation."""
        return timers.standing_arms(live, self.processor.domain, self._idle_ms)

    def _turn(self, live: LiveConversation, event: InboxEvent, channel: str, deadline: float) -> Turn:
        return Turn(self.processor, self._nlg, live, event, channel, deadline)

    def _outcome(self, turn: Turn) -> Outcome:
        """Return the outcome of a turn; it arms the reminders and the timer of the customer's silence."""
        events = turn.new_events()
        arms = timers.reminder_arms(turn.live, events)
        if self._idle_ms:
            arms += timers.silence_arms(turn.live, self.processor.domain, self._idle_ms)
        return outcome.of_turn(turn, events, arms)

    def _dropped(self, live: LiveConversation, timer: TimerDue, verdict: Verdict) -> Outcome:
        """Return a marker with status `answered`. A timer that was moved is put back into the index."""
        metrics.TIMERS_DROPPED.labels(timer.type, verdict.why).inc()
        return outcome.marked(live, timer, self.model_id, timers.moved_arms(live, timer, verdict))


def _channel(live: LiveConversation) -> str:
    """Return the channel of the customer's last message."""
    return live.tracker.get_latest_input_channel() or "rest"
