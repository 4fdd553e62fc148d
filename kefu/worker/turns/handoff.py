"""DECIDE, while a person has the conversation: how that begins, what the desk may do, and how it ends.

In: turns that left the assistant paused, what the desk sends, and the timer of a customer who waits. Out: outcomes
as of any message; of what the desk can't have, a marker that says `refused` and why. See ops/decisions/0015.
"""

import asyncio
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional

from rasa.core.nlg import NaturalLanguageGenerator
from rasa.shared.core.constants import REQUESTED_SLOT
from rasa.shared.core.events import (
    ActionExecuted,
    ActiveLoop,
    AgentUttered,
    BotUttered,
    ConversationResumed,
    Event,
    ReminderCancelled,
    ReminderScheduled,
    SlotSet,
)

from kefu import metrics
from kefu.codec import encode
from kefu.events import (
    DESK_KINDS,
    AgentSaid,
    DeskEvent,
    HandoffTaken,
    InboxEvent,
    ReminderDue,
    UserSaid,
    derived_id,
    now_ms,
)
from kefu.worker.act.calls import REHEARSED
from kefu.worker.conversation import handoffs
from kefu.worker.conversation.handoffs import Handoff
from kefu.worker.conversation.reminders import reminders
from kefu.worker.conversation.stored import METADATA, TurnWrite
from kefu.worker.engine.processor import TurnProcessor
from kefu.worker.turns.live import LiveConversation
from kefu.worker.turns.outcome import Outcome
from kefu.worker.turns.summary import asked_by, summary
from kefu.worker.turns.timers import TimedRunner, Verdict
from kefu.worker.turns.turn import Turn

STARTED_REPLY = "utter_handoff_started"
TAKEN_REPLY = "utter_handoff_taken"
ENDED_REPLY = "utter_handoff_ended"
UNANSWERED_REPLY = "utter_handoff_unanswered"
REPLIES = (STARTED_REPLY, TAKEN_REPLY, ENDED_REPLY, UNANSWERED_REPLY)
TIMER_INTENT = "handoff_unanswered"  # of no domain: the runner takes the timer before any rule
PUT_OFF_MS = 5 * 60_000  # another reminder that falls due meanwhile


def refusal(handoff: Optional[Handoff], event: DeskEvent) -> str:
    """Return why the desk can't have what it asks, empty when it can."""
    if handoff is None or handoff.id != event.handoff:
        return handoffs.ENDED
    if type(event) is HandoffTaken:
        return handoffs.TAKEN_BY_OTHER if handoff.agent not in (None, event.agent) else ""
    return "" if handoff.agent == event.agent else handoffs.NOT_TAKEN


class HandoffRunner(TimedRunner):
    """Runs the turns of messages, of timers and of the desk."""

    def __init__(
        self,
        processor: TurnProcessor,
        nlg: NaturalLanguageGenerator,
        deadline_s: float,
        idle_s: float = 0,
        handoff_wait_s: float = 600,
    ) -> None:
        """Take the model to run on; `handoff_wait_s` is how long a customer waits for a person's next word."""
        super().__init__(processor, nlg, deadline_s, idle_s)
        self._wait_ms = round(handoff_wait_s * 1000)

    async def run(
        self, live: LiveConversation, said: InboxEvent, parsed: "Optional[asyncio.Future[Any]]", begun: float
    ) -> Outcome:
        """Run a message or a timer as TimedRunner does, or what the desk asks."""
        if type(said) in DESK_KINDS:
            return await self._desk(live, said, begun)
        if type(said) is ReminderDue and said.name == handoffs.TIMER:
            return await self._unanswered(live, said, begun)
        return await super().run(live, said, parsed, begun)

    def _outcome(self, turn: Turn) -> Outcome:
        outcome = super()._outcome(turn)
        if not turn.live.tracker.is_paused():
            return outcome
        return replace(outcome, write=replace(outcome.write, listed=True))

    async def settle(self, turn: Turn) -> None:
        """See what a turn that left the assistant paused means: a hand-over that begins, or a customer who waits."""
        tracker = turn.live.tracker
        if not tracker.is_paused():
            return
        if handoffs.standing(tracker) is None:
            await self._begin(turn)
        elif handoffs.TIMER not in reminders(tracker.events).standing:
            turn.put(self._timer())

    async def _begin(self, turn: Turn) -> None:
        """Hand over: end the form, tell the customer, note for the desk what there is to know."""
        tracker, made = turn.live.tracker, turn.new_events()
        task = next((event.name for event in reversed(made) if type(event) is ActiveLoop and event.name), None)
        if tracker.active_loop_name:
            turn.put(ActiveLoop(None), SlotSet(REQUESTED_SLOT, None))
        if not _told(made):
            await turn.say(STARTED_REPLY)
        elif tracker.latest_action_name != "action_listen":
            turn.put(ActionExecuted("action_listen"))
        told = summary(tracker, task or turn.loop_before, turn.channel.name())
        handoff = Handoff(derived_id("HandoffStarted", turn.said.id), turn.heard_at, asked_by(made), told)
        turn.put(handoff.event(), self._timer())
        if not REHEARSED.get():
            metrics.HANDOFFS.labels("started").inc()

    def _timer(self) -> ReminderScheduled:
        """Return the timer of a customer who waits from now on; it replaces one that stands."""
        due = datetime.fromtimestamp((now_ms() + self._wait_ms) / 1000, timezone.utc)
        return ReminderScheduled(TIMER_INTENT, due, name=handoffs.TIMER, kill_on_user_message=False)

    async def _desk(self, live: LiveConversation, event: DeskEvent, begun: float) -> Outcome:
        handoff = handoffs.standing(live.tracker)
        why = refusal(handoff, event)
        if why or handoff is None:
            metrics.HANDOFFS.labels("refused").inc()
            return self._nothing(live, event, status="refused", reason=why)
        if type(event) is HandoffTaken and handoff.agent == event.agent:  # asked again under another id
            return self._nothing(live, event)
        turn = DeskTurn(self, live, event, begun + self._budget_s)
        if type(event) is HandoffTaken:
            await self._take(turn, handoff, event)
        elif type(event) is AgentSaid:
            _speak(turn, event)
        else:
            await self._end(turn, handoff, "given_back", ENDED_REPLY)
        return self._outcome(turn)

    async def _take(self, turn: Turn, handoff: Handoff, event: HandoffTaken) -> None:
        """Let the person have it; the customer waits for the person's first word from now on."""
        turn.put(handoff.taken(event.agent, turn.heard_at).event(), self._timer())
        await turn.say(TAKEN_REPLY)
        metrics.HANDOFFS.labels("taken").inc()

    async def _end(self, turn: Turn, handoff: Handoff, why: str, reply: str) -> None:
        """Let the assistant have it again."""
        ended: Dict[str, Any] = {"id": handoff.id, "why": why, "agent": handoff.agent}
        turn.put(ConversationResumed(metadata={METADATA: ended}), ReminderCancelled(handoffs.TIMER))
        await turn.say(reply)
        metrics.HANDOFFS.labels(why).inc()

    async def _unanswered(self, live: LiveConversation, due: ReminderDue, begun: float) -> Outcome:
        """Take the conversation back from a person who doesn't answer, if the customer still waits."""
        found = self._found(live, due)
        handoff = handoffs.standing(live.tracker)
        if isinstance(found, Verdict) or handoff is None:
            verdict = found if isinstance(found, Verdict) else Verdict(why="unknown")
            metrics.TIMERS_DROPPED.labels(due.type, verdict.why).inc()
            return self._dropped(live, due, verdict)
        turn = DeskTurn(self, live, due, begun + self._budget_s)
        await self._end(turn, handoff, "unanswered", UNANSWERED_REPLY)
        return self._outcome(turn)

    def _judge_reminder(self, live: LiveConversation, timer: ReminderDue) -> Verdict:
        """Put other reminders off: the assistant can't act on them now."""
        verdict = super()._judge_reminder(live, timer)
        if verdict.intent is not None and live.tracker.is_paused():
            return Verdict(why="paused", again=now_ms() + PUT_OFF_MS)
        return verdict

    def _nothing(self, live: LiveConversation, event: DeskEvent, **outcome: Any) -> Outcome:
        answer = self._answer(live, event, **outcome)
        return Outcome(live, TurnWrite(event.message_id, live.version, live.seq, [], encode(answer), []), answer)


class DeskTurn(Turn):
    """The turn of the desk, or of the time that it let pass: Rasa decides nothing in it."""

    def __init__(self, runner: HandoffRunner, live: LiveConversation, event: Any, deadline: float) -> None:
        channel = live.tracker.get_latest_input_channel() or "rest"
        said = UserSaid(
            event.tenant,
            event.user,
            event.message_id,
            text="",
            channel=channel,
            id=event.id,
            ts=event.ts,
            traceparent=event.traceparent,
        )
        super().__init__(runner, live, said, deadline)


def _speak(turn: Turn, said: AgentSaid) -> None:
    """Give the customer a person's words; who has been answered no longer waits."""
    spoken = AgentUttered(said.text, {"custom": {"agent": {"name": said.name}}}, metadata={"agent": said.agent})
    turn.put(spoken, ReminderCancelled(handoffs.TIMER))


def _told(made: List[Event]) -> bool:
    """Return whether the action that paused the assistant has said anything itself."""
    for event in reversed(made):
        if type(event) is BotUttered:
            return True
        if type(event) is ActionExecuted and event.action_name != "action_listen":
            return False
    return False
