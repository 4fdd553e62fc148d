"""UNDERSTAND AND DECIDE: one message through Rasa, in memory, within its deadline.

In: a live conversation and a parsed message. Out: the write that stores the turn. Whatever
fails, the turn ends with a reply that is true: that of the action that failed, or a holding one.
"""

import asyncio
import logging
import time
from dataclasses import replace
from itertools import islice
from typing import Any, Dict, List, Optional, Sequence

from async_timeout import Timeout, timeout  # aiohttp's; wait_for would make a task of each step
from rasa.core.channels.channel import CollectingOutputChannel
from rasa.core.nlg import NaturalLanguageGenerator
from rasa.shared.core.events import ActionExecuted, AgentUttered, BotUttered, Event, UserUttered

from kefu import metrics
from kefu.codec import encode
from kefu.errors import ActionFailed
from kefu.events import AnswerGenerated, UserSaid, now_ms
from kefu.worker.act.calls import CALLS, ActionCalls
from kefu.worker.conversation.events import as_stored
from kefu.worker.conversation.messages import HEARD_AT
from kefu.worker.conversation.stored import Arm, TurnWrite
from kefu.worker.engine.processor import MESSAGE_TIME, TurnProcessor
from kefu.worker.turns.live import TURNS_KEPT, LiveConversation, build_tracker
from kefu.worker.turns.offered import was_offered
from kefu.worker.turns.outcome import Outcome, reply_of

logger = logging.getLogger(__name__)

ACTION_FAILED_REPLY = "utter_action_failed"
HOLDING_REPLY = "utter_holding"
PAYLOAD_NOT_OFFERED = "payload_not_offered"
# Of the deadline, this much is kept for storing and answering after Rasa had its time.
RESERVED_S = 0.5
_REPLIES = (BotUttered, AgentUttered)  # what the customer gets
HEARING_S = 0.4  # at least, out of what is reserved: the message must get on the tracker, however late it is


class ReplyChannel(CollectingOutputChannel):
    """The channel that responses may depend on: a name. The turn itself carries the replies.

    Attributes:
        checkpoint: how many of the tracker's events stand, should the action under way fail.
    """

    def __init__(self, name: str, checkpoint: int) -> None:
        super().__init__()
        self._name = name
        self.checkpoint = checkpoint

    def name(self) -> str:  # type: ignore[override]
        """Return the customer's channel."""
        return self._name


class TurnRunner:
    """Runs turns on one model. A swap of the model makes a new runner."""

    def __init__(self, processor: TurnProcessor, nlg: NaturalLanguageGenerator, deadline_s: float) -> None:
        self.processor = processor
        self._nlg = nlg
        self._budget_s = max(0.1, deadline_s - RESERVED_S)

    @property
    def model_id(self) -> str:
        """The id of the model that this runner serves."""
        return self.processor.model_metadata.model_id

    async def run(
        self, live: LiveConversation, said: UserSaid, parsed: "asyncio.Future[Dict[str, Any]]", begun: float
    ) -> Outcome:
        """Run a message through Rasa. Mutates `live`, which is good for nothing if this raises.

        Args:
            live: the conversation, as the store has it.
            said: the message.
            parsed: what NLU makes of it.
            begun: of the monotonic clock, in s; the deadline counts from here.
        """
        if said.payload is not None and not was_offered(live, said.payload):
            return self.refusal(live, said, PAYLOAD_NOT_OFFERED)
        return await self._done(Turn(self, live, said, begun + self._budget_s), parsed)

    async def _done(self, turn: "Turn", parsed: "asyncio.Future[Dict[str, Any]]") -> Outcome:
        await turn.run(parsed)
        await self.settle(turn)
        return self._outcome(turn)

    async def settle(self, turn: "Turn") -> None:
        """Complete a turn that has been run and not yet stored; there is nothing to do without `handoff.turns`."""

    def refusal(self, live: LiveConversation, said: UserSaid, reason: str) -> Outcome:
        """Return the outcome of a message that failed: a marker that says so, no events, no replies."""
        answer = self._answer(live, said, status="failed", reason=reason)
        return Outcome(live, TurnWrite(said.message_id, live.version, live.seq, [], encode(answer), []), answer)

    def _answer(
        self, live: LiveConversation, said: UserSaid, replies: Sequence[Dict[str, Any]] = (), **outcome: Any
    ) -> AnswerGenerated:
        return AnswerGenerated(
            said.tenant,
            said.user,
            said.message_id,
            cause=said.id,
            tracker_version=live.version + 1,
            seq=live.seq + len(replies),
            replies=list(replies),
            model_id=self.model_id,
            traceparent=said.traceparent,
            **outcome,
        )

    def _outcome(self, turn: "Turn") -> Outcome:
        live, said, events = turn.live, turn.said, turn.new_events()
        ts = now_ms()
        uttered = [event for event in events if type(event) in _REPLIES]
        replies = [reply_of(event, live.seq + n, said.message_id, ts) for n, event in enumerate(uttered, 1)]
        answer = self._answer(
            live,
            said,
            replies,
            events=len(events),
            intent=turn.parse_data.get("intent", {}).get("name"),
            confidence=turn.parse_data.get("intent", {}).get("confidence"),
            actions=[event.action_name for event in events if type(event) is ActionExecuted and event.action_name],
            stages_ms={stage: round(ms, 2) for stage, ms in turn.stages_ms.items()},
            ts=ts,
        )
        write = TurnWrite(
            said.message_id, live.version, live.seq + len(replies), as_stored(events), encode(answer), replies
        )
        snapshot = live.snapshot_if_due(self.processor.view, len(events))
        if snapshot is not None:
            write = replace(write, snapshot=as_stored(snapshot), keep=TURNS_KEPT)
        return Outcome(live, write, answer, snapshot, events)

    def timers(self, live: LiveConversation) -> List[Arm]:
        """Return where to find the timers of a conversation; there are none without `timers.turns`."""
        return []

    async def utter(self, name: str, turn: "Turn") -> List[Event]:
        """Return the events of saying the response `name`, after which the assistant listens."""
        message = await self._nlg.generate(name, turn.live.tracker, turn.channel.name())
        events: List[Event] = [ActionExecuted(name)]
        if message:
            data = {key: value for key, value in message.items() if key not in ("text", "metadata", "id")}
            events.append(BotUttered(message.get("text"), data, {"utter_action": name}))
        return [*events, ActionExecuted("action_listen")]


class Turn:
    """One message on its way through Rasa."""

    def __init__(self, runner: TurnRunner, live: LiveConversation, said: UserSaid, deadline: float) -> None:
        self.runner = runner
        self.live = live
        self.said = said
        self.channel = ReplyChannel(said.channel, len(live.tracker.events))
        self.parse_data: Dict[str, Any] = {"text": said.text or said.payload, "intent": {}, "entities": []}
        self.stages_ms: Dict[str, float] = {}
        self.heard_at = now_ms()
        self.loop_before = live.tracker.active_loop_name
        self._deadline = deadline
        self._calls = ActionCalls(said.message_id, deadline)
        self._before = len(live.tracker.events)

    def new_events(self) -> List[Event]:
        """Return what this turn added to the tracker."""
        events = self.live.tracker.events
        return list(islice(reversed(events), len(events) - self._before))[::-1]

    def put(self, *events: Event) -> None:
        """Put events on the tracker."""
        for event in events:
            self.live.tracker.update(event, self.runner.processor.domain)

    async def run(self, parsed: "asyncio.Future[Dict[str, Any]]") -> None:
        """Run to the end; one of Rasa's replies, the failure's, or the holding one."""
        CALLS.set(self._calls)
        MESSAGE_TIME.set(self.said.ts / 1000)
        try:
            understood = await self._understand(parsed)
            await self._hear()
            if understood:
                async with self._deadline_left():
                    await self._decide()
                await self._never_silent()
            else:
                await self._instead(HOLDING_REPLY)
        except asyncio.TimeoutError:
            metrics.ACTION_FAILURES.labels("deadline").inc()
            await self._instead(HOLDING_REPLY)
        except ActionFailed as error:
            metrics.ACTION_FAILURES.labels(error.action).inc()
            fields = {"action": error.action, "reason": error.reason, "message_id": self.said.message_id}
            logger.warning("action failed", extra={"fields": fields})
            await self._instead(ACTION_FAILED_REPLY)

    def _deadline_left(self, at_least_s: float = 0.01) -> Timeout:
        return timeout(max(at_least_s, self._deadline - time.monotonic()))

    async def _understand(self, parsed: "asyncio.Future[Dict[str, Any]]") -> bool:
        """Wait for NLU; False when it failed or is late, then the customer gets the holding reply."""
        started = time.monotonic()
        try:
            if not parsed.done():
                async with self._deadline_left():
                    # The poll's future is shared: a deadline of this turn must not cancel it.
                    await asyncio.shield(parsed)
            found = parsed.result()
            # Another customer may have said the same: what Rasa changes is this turn's own.
            own = {"text": self.said.text or self.said.payload, "entities": [dict(each) for each in found["entities"]]}
            self.parse_data = {**found, **own, "intent": dict(found["intent"])}
            return True
        except asyncio.TimeoutError:
            logger.warning("NLU is late", extra={"fields": {"message_id": self.said.message_id}})
        except Exception as error:  # noqa: BLE001 - any component may raise anything
            fields = {"message_id": self.said.message_id, "error": error.__class__.__name__}
            logger.error("NLU failed", extra={"fields": fields})
        finally:
            self.stages_ms["nlu"] = (time.monotonic() - started) * 1000
        return False

    async def _hear(self) -> None:
        """Start a session if one is due, and put the message on the tracker with its own time."""
        processor, tracker = self.runner.processor, self.live.tracker
        failed: Optional[Exception] = None
        if not tracker.is_paused() and processor.session_due(tracker):  # a new session would end the pause
            try:
                async with self._deadline_left(HEARING_S):
                    await processor.start_session(tracker, self.channel)
            except (asyncio.TimeoutError, ActionFailed) as error:  # an assistant's own action; what was said stands
                self._undo()
                tracker, failed = self.live.tracker, error
        tracker.model_id = processor.model_metadata.model_id
        tracker.assistant_id = processor.model_metadata.assistant_id
        parse_data = self.parse_data
        heard = UserUttered(
            self.said.text or self.said.payload,
            parse_data.get("intent"),
            parse_data.get("entities"),
            parse_data,
            timestamp=self.said.ts / 1000,
            input_channel=self.said.channel,
            message_id=self.said.message_id,
            metadata=self._metadata(),
        )
        tracker.update(heard, processor.domain)
        self.channel.checkpoint = len(tracker.events)
        if failed is not None:
            raise failed

    def _metadata(self) -> Dict[str, Any]:
        """Return what actions go by: the token's user, never anything that the customer sent."""
        said = self.said
        return {
            "tenant": said.tenant,
            "user": said.user,
            "identified": said.identified,
            "message_id": said.message_id,
            HEARD_AT: self.heard_at,
            "client": said.metadata,
        }

    async def _decide(self) -> None:
        started = time.monotonic()
        try:
            await self.runner.processor.decide(self.live.tracker, self.channel)
        finally:
            self.stages_ms["dialogue"] = (time.monotonic() - started) * 1000
            if self._calls.made:  # part of it
                self.stages_ms["action"] = self._calls.waited_s * 1000

    async def _instead(self, reply: str) -> None:
        """Undo what the unfinished action left on the tracker, and say `reply`."""
        self._undo()
        if not self.live.tracker.is_paused():  # a person has the conversation
            await self.say(reply)

    def _undo(self) -> None:
        done = list(self.live.tracker.events)[: self.channel.checkpoint]
        self.live.tracker = build_tracker(self.live.conversation, self.runner.processor.view, done)

    async def say(self, reply: str) -> None:
        """Say a response of the platform's own, and listen."""
        self.put(*await self.runner.utter(reply, self))

    async def _never_silent(self) -> None:
        """Answer for a model that stopped without listening or without a word."""
        tracker = self.live.tracker
        spoke = any(type(event) is BotUttered for event in self.new_events())
        if tracker.is_paused() or (spoke and tracker.latest_action_name == "action_listen"):
            return
        logger.warning("turn without an end or a reply", extra={"fields": {"message_id": self.said.message_id}})
        await self.say(ACTION_FAILED_REPLY)
