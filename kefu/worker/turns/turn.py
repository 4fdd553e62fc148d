"""UNDERSTAND AND DECIDE: one message through Rasa, in memory, within its deadline.

In: a live conversation and a parsed message. Out: new events on its tracker. Whatever fails, the
turn ends with a reply that is true: that of the action that failed, or a holding one.
"""

import asyncio
import logging
import time
from itertools import islice
from typing import Any, Dict, List, NamedTuple, Optional

from async_timeout import Timeout, timeout  # aiohttp's; wait_for would make a task of each step
from rasa.core.channels.channel import CollectingOutputChannel
from rasa.core.nlg import NaturalLanguageGenerator
from rasa.shared.core.events import ActionExecuted, BotUttered, Event, UserUttered

from kefu import metrics
from kefu.errors import ActionFailed
from kefu.events import InboxEvent, UserSaid, now_ms
from kefu.worker.act.calls import CALLS, ActionCalls
from kefu.worker.conversation.messages import HEARD_AT
from kefu.worker.engine.processor import MESSAGE_TIME, TurnProcessor
from kefu.worker.turns.live import LiveConversation, build_tracker

logger = logging.getLogger(__name__)

ACTION_FAILED_REPLY = "utter_action_failed"
HOLDING_REPLY = "utter_holding"
# For the session start, at least, out of `runner.RESERVED_S`: the message must get on the tracker, however late it is.
HEARING_S = 0.4


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


class Utterance(NamedTuple):
    """The message that a turn puts on the tracker: the customer's words, or the trigger of a timer.

    Attributes:
        text: as Rasa sees it.
        metadata: what actions go by.
        must_reply: whether the turn may not end without a reply.
        tells_failure: whether the customer hears that something failed.
    """

    text: str
    metadata: Dict[str, Any]
    must_reply: bool = True
    tells_failure: bool = True


class Turn:
    """One event of the inbox on its way through Rasa."""

    def __init__(
        self,
        processor: TurnProcessor,
        nlg: NaturalLanguageGenerator,
        live: LiveConversation,
        event: InboxEvent,
        channel: str,
        deadline: float,
    ) -> None:
        """Prepare.

        Args:
            processor: Rasa, on the model that serves.
            nlg: makes the responses of the platform itself.
            live: the conversation, as the store has it.
            event: the cause of the turn.
            channel: by which the customer writes.
            deadline: of the monotonic clock, in s.
        """
        self.processor = processor
        self.live = live
        self.event = event
        self.channel = ReplyChannel(channel, len(live.tracker.events))
        self.parse_data: Dict[str, Any] = {}
        self.stages_ms: Dict[str, float] = {}
        self.heard_at = now_ms()
        self.loop_before = live.tracker.active_loop_name
        self._nlg = nlg
        self._deadline = deadline
        self._calls = ActionCalls(event.message_id, deadline)
        self._before = len(live.tracker.events)

    def new_events(self) -> List[Event]:
        """Return what this turn added to the tracker."""
        events = self.live.tracker.events
        return list(islice(reversed(events), len(events) - self._before))[::-1]

    def put(self, *events: Event) -> None:
        """Put events on the tracker."""
        for event in events:
            self.live.tracker.update(event, self.processor.domain)

    async def run(self, utterance: Utterance, parsed: "asyncio.Future[Dict[str, Any]]") -> None:
        """Have Rasa answer: with a reply of its own, that of the action that failed, or the holding one.

        Args:
            utterance: what the tracker hears.
            parsed: what NLU makes of it.
        """
        CALLS.set(self._calls)
        MESSAGE_TIME.set(self.event.ts / 1000)
        self.parse_data = {"text": utterance.text, "intent": {}, "entities": []}
        try:
            understood = await self._understand(utterance, parsed)
            await self._hear(utterance)
            if understood:
                async with self._deadline_left():
                    await self._decide()
                await self._never_silent(utterance)
            else:
                await self._instead(utterance, HOLDING_REPLY)
        except asyncio.TimeoutError:
            metrics.ACTION_FAILURES.labels("deadline").inc()
            await self._instead(utterance, HOLDING_REPLY)
        except ActionFailed as error:
            metrics.ACTION_FAILURES.labels(error.action).inc()
            fields = {"action": error.action, "reason": error.reason, "message_id": self.event.message_id}
            logger.warning("action failed", extra={"fields": fields})
            await self._instead(utterance, ACTION_FAILED_REPLY)

    def _deadline_left(self, at_least_s: float = 0.01) -> Timeout:
        return timeout(max(at_least_s, self._deadline - time.monotonic()))

    async def _understand(self, utterance: Utterance, parsed: "asyncio.Future[Dict[str, Any]]") -> bool:
        """Wait for NLU; False when it failed or is late, then the customer gets the holding reply."""
        started = time.monotonic()
        try:
            if not parsed.done():
                async with self._deadline_left():
                    # The poll's future is shared: a deadline of this turn must not cancel it.
                    await asyncio.shield(parsed)
            found = parsed.result()
            # Another customer may have said the same: what Rasa changes is this turn's own.
            own = {"text": utterance.text, "entities": [dict(each) for each in found["entities"]]}
            self.parse_data = {**found, **own, "intent": dict(found["intent"])}
            return True
        except asyncio.TimeoutError:
            logger.warning("NLU is late", extra={"fields": {"message_id": self.event.message_id}})
        except Exception as error:  # noqa: BLE001 - any component may raise anything
            fields = {"message_id": self.event.message_id, "error": error.__class__.__name__}
            logger.error("NLU failed", extra={"fields": fields})
        finally:
            self.stages_ms["nlu"] = (time.monotonic() - started) * 1000
        return False

    async def _hear(self, utterance: Utterance) -> None:
        """Start a session if one is due, and put the message on the tracker with its own time."""
        processor, tracker = self.processor, self.live.tracker
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
            utterance.text,
            parse_data.get("intent"),
            parse_data.get("entities"),
            parse_data,
            timestamp=self.event.ts / 1000,
            input_channel=self.channel.name(),
            message_id=self.event.message_id,
            metadata=utterance.metadata,
        )
        tracker.update(heard, processor.domain)
        self.channel.checkpoint = len(tracker.events)
        if failed is not None:
            raise failed

    async def _decide(self) -> None:
        started = time.monotonic()
        try:
            await self.processor.decide(self.live.tracker, self.channel)
        finally:
            self.stages_ms["dialogue"] = (time.monotonic() - started) * 1000
            if self._calls.made:  # part of it
                self.stages_ms["action"] = self._calls.waited_s * 1000

    async def _instead(self, utterance: Utterance, reply: str) -> None:
        """Undo what the unfinished action left on the tracker, and say `reply`."""
        self._undo()
        if not utterance.tells_failure:
            self._listen()
        elif not self.live.tracker.is_paused():  # a person has the conversation
            await self.say(reply)

    def _undo(self) -> None:
        done = list(self.live.tracker.events)[: self.channel.checkpoint]
        self.live.tracker = build_tracker(self.live.conversation, self.processor.view, done)

    async def say(self, reply: str) -> None:
        """Say a response of the platform's own, and listen."""
        message = await self._nlg.generate(reply, self.live.tracker, self.channel.name())
        self.put(ActionExecuted(reply))
        if message:
            data = {key: value for key, value in message.items() if key not in ("text", "metadata", "id")}
            self.put(BotUttered(message.get("text"), data, {"utter_action": reply}))
        self._listen()

    async def _never_silent(self, utterance: Utterance) -> None:
        """Answer for a model that stopped without listening or without a word."""
        tracker = self.live.tracker
        listens = tracker.latest_action_name == "action_listen"
        if tracker.is_paused():
            return
        if not utterance.must_reply:
            if not listens:
                self._listen()
            return
        if listens and any(type(event) is BotUttered for event in self.new_events()):
            return
        logger.warning("turn without an end or a reply", extra={"fields": {"message_id": self.event.message_id}})
        await self.say(ACTION_FAILED_REPLY)

    def _listen(self) -> None:
        self.put(ActionExecuted("action_listen"))


def utterance_of(said: UserSaid, heard_at: int) -> Utterance:
    """Return a customer's message for the tracker; actions go by the token's user, never by what the customer sent.

    Args:
        said: the message; it has a text or a payload.
        heard_at: when its turn began, in ms.
    """
    words = said.payload if said.text is None else said.text
    assert words is not None  # `decode_inbox` refuses a message without both
    metadata = {
        "tenant": said.tenant,
        "user": said.user,
        "identified": said.identified,
        "message_id": said.message_id,
        HEARD_AT: heard_at,
        "client": said.metadata,
    }
    return Utterance(words, metadata)
