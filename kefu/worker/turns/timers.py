"""UNDERSTAND AND DECIDE, for timers: what a turn arms, and the turn of a timer that is due.

In: `ReminderDue` and `SessionIdled` in their conversation's lane. Out: an outcome as of any message;
for a timer that no longer stands, a marker and nothing else. ops/decisions/0004 says why a timer fires once.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

from rasa.core.nlg import NaturalLanguageGenerator
from rasa.shared.core.constants import EXTERNAL_MESSAGE_PREFIX, IS_EXTERNAL
from rasa.shared.core.events import ActionExecuted, ReminderScheduled

from kefu import metrics
from kefu.codec import encode
from kefu.events import InboxEvent, ReminderDue, SessionIdled, TimerDue, UserSaid, now_ms
from kefu.keys import MAX_REMINDER_NAME_CHARS, due_entry
from kefu.worker.conversation import reminders
from kefu.worker.conversation.handoffs import TIMER as HANDOFF_TIMER
from kefu.worker.conversation.messages import HEARD_AT, last_said
from kefu.worker.conversation.stored import Arm, TurnWrite
from kefu.worker.engine.processor import TurnProcessor
from kefu.worker.turns.live import LiveConversation, build_tracker
from kefu.worker.turns.outcome import Outcome
from kefu.worker.turns.turn import Turn, TurnRunner

logger = logging.getLogger(__name__)

MAX_REMINDERS = 20  # of one conversation: an action that schedules without end must not fill the index
LATE_MS = 60_000  # a silence that waited longer in Kafka may have been broken by a message behind it


class Verdict(NamedTuple):
    """What to do with a timer that is due.

    Attributes:
        intent: to trigger; None when the timer no longer stands.
        entities: of the message that triggers it.
        why: it doesn't, a word for the metric.
        again: when to look again, in ms; None for never.
    """

    intent: Optional[str] = None
    entities: Sequence[Dict[str, Any]] = ()
    why: str = ""
    again: Optional[int] = None


class TimedRunner(TurnRunner):
    """Runs the turns of messages and of timers."""

    def __init__(
        self, processor: TurnProcessor, nlg: NaturalLanguageGenerator, deadline_s: float, idle_s: float = 0
    ) -> None:
        """Take the model to run on; `idle_s` is how long a silence may last, 0 for as long as it likes."""
        super().__init__(processor, nlg, deadline_s)
        self._idle_ms = round(idle_s * 1000)

    async def run(
        self, live: LiveConversation, said: InboxEvent, parsed: "Optional[asyncio.Future[Any]]", begun: float
    ) -> Outcome:
        """Run a message as TurnRunner does, or a timer that is due; NLU has nothing to say of that."""
        if type(said) is UserSaid:
            return await super().run(live, said, parsed, begun)
        kind = said.type
        verdict = self._judge(live, said)
        if verdict.intent is None:
            metrics.TIMERS_DROPPED.labels(kind, verdict.why).inc()
            return self._dropped(live, said, verdict)
        turn = DueTurn(self, live, said, verdict, begun + self._budget_s)
        outcome = await self._done(turn, _parsed(verdict))
        metrics.TIMERS_FIRED.labels(kind).inc()
        metrics.TIMER_LATE_SECONDS.labels(kind).observe(max(0, now_ms() - said.due) / 1000)
        return outcome

    def _outcome(self, turn: Turn) -> Outcome:
        outcome = super()._outcome(turn)
        arms = self._armed_by(turn, outcome)
        return replace(outcome, write=replace(outcome.write, arms=arms)) if arms else outcome

    def timers(self, live: LiveConversation) -> List[Arm]:
        """Return where to find all that stands of a conversation, and when."""
        arms = self._reminders(live, list(reminders.reminders(live.tracker.events).standing))
        return arms + (self._idle(live) if self._idle_ms else [])

    def _armed_by(self, turn: Turn, outcome: Outcome) -> List[Arm]:
        """Return the timers that a turn leaves behind: where to find them, and when."""
        live, arms = turn.live, []
        if any(type(event) is ReminderScheduled for event in outcome.events):
            arms = self._reminders(live, [e.name for e in outcome.events if type(e) is ReminderScheduled])
        if self._idle_ms and not isinstance(turn, DueTurn):
            arms += self._idle(live)
        return arms

    @staticmethod
    def _reminders(live: LiveConversation, scheduled: List[str]) -> List[Arm]:
        standing = reminders.reminders(live.tracker.events).standing
        arms = []
        for place, (name, reminder) in enumerate(standing.items()):
            if name not in scheduled:
                continue
            if (place >= MAX_REMINDERS and name != HANDOFF_TIMER) or not 0 < len(name) <= MAX_REMINDER_NAME_CHARS:
                metrics.TIMERS_DROPPED.labels("ReminderDue", "refused").inc()
                logger.error("reminder refused: too many, or its name is empty or too long")
                continue
            arms.append(Arm(live.partition, due_entry(live.conversation, name), reminders.due_ms(reminder)))
        return arms

    def _idle(self, live: LiveConversation) -> List[Arm]:
        if live.tracker.is_paused() or reminders.idle_intent(live.tracker, self.processor.domain) is None:
            return []
        silence = reminders.silence(live.tracker.events)
        return [self._idle_arm(live, silence.since + self._idle_ms)] if silence else []

    @staticmethod
    def _idle_arm(live: LiveConversation, due: int) -> Arm:
        return Arm(live.partition, due_entry(live.conversation), due)

    def _judge(self, live: LiveConversation, timer: TimerDue) -> Verdict:
        return self._judge_idle(live, timer) if type(timer) is SessionIdled else self._judge_reminder(live, timer)

    def _judge_reminder(self, live: LiveConversation, timer: TimerDue) -> Verdict:
        reminder = self._found(live, timer)
        if isinstance(reminder, Verdict):
            return reminder
        if reminder.intent not in self.processor.domain.intent_properties:
            return Verdict(why="unknown_intent")
        return Verdict(reminder.intent, reminders.entities_of(reminder))

    @staticmethod
    def _found(live: LiveConversation, timer: ReminderDue) -> Union[ReminderScheduled, Verdict]:
        """Return the reminder that is due, or why it isn't."""
        found = reminders.reminders(live.tracker.events)
        reminder = found.standing.get(timer.name)
        if reminder is None:
            return Verdict(why=found.ended.get(timer.name, "unknown"))
        if reminders.due_ms(reminder) > timer.due:
            return Verdict(why="moved", again=reminders.due_ms(reminder))
        return reminder

    def _judge_idle(self, live: LiveConversation, timer: TimerDue) -> Verdict:
        tracker, silence = live.tracker, reminders.silence(live.tracker.events)
        intent = reminders.idle_intent(tracker, self.processor.domain)
        if not self._idle_ms or intent is None or silence is None:
            return Verdict(why="not_wanted")
        if silence.told:
            return Verdict(why="told_before")
        if tracker.is_paused():
            return Verdict(why="paused")
        if timer.due < silence.since + self._idle_ms:
            return Verdict(why="message_since", again=silence.since + self._idle_ms)
        if self.processor.session_over(tracker, timer.ts / 1000):
            return Verdict(why="session_over")
        if now_ms() - timer.ts > LATE_MS:
            return Verdict(why="late", again=now_ms() + self._idle_ms)
        return Verdict(intent)

    def _dropped(self, live: LiveConversation, timer: TimerDue, verdict: Verdict) -> Outcome:
        """Return a marker that says answered, without replies; a timer that was moved is found again."""
        answer = self._answer(live, timer)
        write = TurnWrite(timer.message_id, live.version, live.seq, [], encode(answer), [])
        if verdict.again is not None:
            name = None if type(timer) is SessionIdled else timer.name
            write = replace(write, arms=[Arm(live.partition, due_entry(live.conversation, name), verdict.again)])
        return Outcome(live, write, answer)


def _parsed(verdict: Verdict) -> "asyncio.Future[Dict[str, Any]]":
    """Return what NLU would have made of a message with the timer's intent and entities."""
    done = asyncio.get_running_loop().create_future()
    intent = {"name": verdict.intent, "confidence": 1.0}
    done.set_result({"text": _words(verdict), "intent": intent, "entities": list(verdict.entities)})
    return done


def _words(verdict: Verdict) -> str:
    return f"{EXTERNAL_MESSAGE_PREFIX}{verdict.intent}"


class DueTurn(Turn):
    """A timer on its way through Rasa: an external message, as `trigger_external_user_uttered` makes one."""

    def __init__(
        self, runner: TimedRunner, live: LiveConversation, timer: TimerDue, verdict: Verdict, deadline: float
    ) -> None:
        last = last_said(live.tracker.events)
        known = (last.metadata or {}) if last else {}
        said = UserSaid(
            timer.tenant,
            timer.user,
            timer.message_id,
            text=_words(verdict),
            identified=bool(known.get("identified")),
            channel=live.tracker.get_latest_input_channel() or "rest",
            metadata=known.get("client") or {},
            id=timer.id,
            ts=timer.ts,
            traceparent=timer.traceparent,
        )
        super().__init__(runner, live, said, deadline)
        self._timer = timer

    @property
    def _of_silence(self) -> bool:
        return type(self._timer) is SessionIdled

    def _metadata(self) -> Dict[str, Any]:
        """Return what actions go by, as of the customer's last message, and what the rules tell timers by."""
        fired = {reminders.FIRED_IDLE: True} if self._of_silence else {reminders.FIRED_REMINDER: self._timer.name}
        found = super()._metadata()
        del found[HEARD_AT]
        return {**found, IS_EXTERNAL: True, **fired}

    async def _instead(self, reply: str) -> None:
        """Say that a reminder failed, for somebody counts on it; of a silence, that nobody asked about, nothing."""
        if not self._of_silence:
            await super()._instead(reply)
            return
        done = list(self.live.tracker.events)[: self.channel.checkpoint]
        self.live.tracker = build_tracker(self.live.conversation, self.runner.processor.view, done)
        self._listen()

    async def _never_silent(self) -> None:
        """Let a timer's turn end without a word, but not without listening."""
        if not self.live.tracker.is_paused() and self.live.tracker.latest_action_name != "action_listen":
            self._listen()

    def _listen(self) -> None:
        self.live.tracker.update(ActionExecuted("action_listen"), self.runner.processor.domain)
