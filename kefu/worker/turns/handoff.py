"""DECIDE, while a person answers the conversation: begins hand-overs, applies the desk's events, ends hand-overs.

In: turns that left the assistant paused, the desk's events, and the timer of a waiting customer. Out: new events on the
turn's tracker; for a desk event that is refused, the reason. See ops/decisions/0015.
"""

from datetime import datetime, timezone
from typing import Any, Dict, List, Optional

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
from kefu.events import AgentSaid, DeskEvent, HandoffTaken, derived_id, now_ms
from kefu.worker.act.calls import REHEARSED
from kefu.worker.conversation import handoffs
from kefu.worker.conversation.handoffs import Handoff
from kefu.worker.conversation.reminders import reminders
from kefu.worker.conversation.stored import METADATA
from kefu.worker.turns.summary import asked_by, summary
from kefu.worker.turns.turn import Turn

# Responses that the platform itself gives, so that every model with hand-overs must have them.
STARTED_REPLY = "utter_handoff_started"
TAKEN_REPLY = "utter_handoff_taken"
ENDED_REPLY = "utter_handoff_ended"
UNANSWERED_REPLY = "utter_handoff_unanswered"
REPLIES = (STARTED_REPLY, TAKEN_REPLY, ENDED_REPLY, UNANSWERED_REPLY)
TIMER_INTENT = "handoff_unanswered"  # in no domain, because the runner handles this timer without Rasa's rules


def refusal(handoff: Optional[Handoff], event: DeskEvent) -> str:
    """Return why a desk event is refused; empty if it is allowed."""
    if handoff is None or handoff.id != event.handoff:
        return handoffs.ENDED
    if type(event) is HandoffTaken:
        return handoffs.TAKEN_BY_OTHER if handoff.agent not in (None, event.agent) else ""
    return "" if handoff.agent == event.agent else handoffs.NOT_TAKEN


async def settle(turn: Turn, wait_ms: int) -> None:
    """Complete a turn that left the assistant paused: begin a hand-over, or start the timer of a waiting customer.

    Args:
        turn: as Rasa left it.
        wait_ms: how long a customer waits for a person's next message, before the assistant answers again.
    """
    tracker = turn.live.tracker
    if not tracker.is_paused():
        return
    if handoffs.standing(tracker) is None:
        await _begin(turn, wait_ms)
    elif handoffs.TIMER not in reminders(tracker.events).standing:
        turn.put(_timer(wait_ms))


async def _begin(turn: Turn, wait_ms: int) -> None:
    """Begin a hand-over: end the form, tell the customer, write the summary for the desk."""
    tracker, events = turn.live.tracker, turn.new_events()
    task = next((event.name for event in reversed(events) if type(event) is ActiveLoop and event.name), None)
    if tracker.active_loop_name:
        turn.put(ActiveLoop(None), SlotSet(REQUESTED_SLOT, None))
    if not _has_replied(events):
        await turn.say(STARTED_REPLY)
    elif tracker.latest_action_name != "action_listen":
        turn.put(ActionExecuted("action_listen"))
    overview = summary(tracker, task or turn.loop_before, turn.channel.name())
    handoff = Handoff(derived_id("HandoffStarted", turn.event.id), turn.heard_at, asked_by(events), overview)
    turn.put(handoff.event(), _timer(wait_ms))
    if not REHEARSED.get():
        metrics.HANDOFFS.labels("started").inc()


def _has_replied(events: List[Event]) -> bool:
    """Return whether the action that paused the assistant has itself sent the customer a reply."""
    for event in reversed(events):
        if type(event) is BotUttered:
            return True
        if type(event) is ActionExecuted and event.action_name != "action_listen":
            return False
    return False


def _timer(wait_ms: int) -> ReminderScheduled:
    """Return the timer for a customer's wait that begins now. It replaces the timer of an earlier wait."""
    due = datetime.fromtimestamp((now_ms() + wait_ms) / 1000, timezone.utc)
    return ReminderScheduled(TIMER_INTENT, due, name=handoffs.TIMER, kill_on_user_message=False)


async def act(turn: Turn, handoff: Handoff, event: DeskEvent, wait_ms: int) -> None:
    """Apply a desk event: give the conversation to an agent, pass on the agent's words, or end the hand-over."""
    if type(event) is HandoffTaken:
        # The wait for the agent's first message starts now.
        turn.put(handoff.taken(event.agent, turn.heard_at).event(), _timer(wait_ms))
        await turn.say(TAKEN_REPLY)
        metrics.HANDOFFS.labels("taken").inc()
    elif type(event) is AgentSaid:
        _speak(turn, event)
    else:
        await _end(turn, handoff, "given_back", ENDED_REPLY)


def _speak(turn: Turn, words: AgentSaid) -> None:
    """Give the customer an agent's words, and cancel the timer: the customer no longer waits."""
    spoken = AgentUttered(words.text, {"custom": {"agent": {"name": words.name}}}, metadata={"agent": words.agent})
    turn.put(spoken, ReminderCancelled(handoffs.TIMER))


async def take_back(turn: Turn, handoff: Handoff) -> None:
    """Give the conversation back to the assistant, because the agent doesn't answer."""
    await _end(turn, handoff, "unanswered", UNANSWERED_REPLY)


async def _end(turn: Turn, handoff: Handoff, why: str, reply: str) -> None:
    """End the hand-over, so that the assistant answers the conversation again, and send the customer `reply`."""
    ended: Dict[str, Any] = {"id": handoff.id, "why": why, "agent": handoff.agent}
    turn.put(ConversationResumed(metadata={METADATA: ended}), ReminderCancelled(handoffs.TIMER))
    await turn.say(reply)
    metrics.HANDOFFS.labels(why).inc()
