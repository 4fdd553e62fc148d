"""UNDERSTAND AND DECIDE: runs one message through Rasa, in memory, within its deadline.

In: a live conversation and a parsed message. Out: new events on its tracker. If anything fails, the turn ends with the
reply for a failed action or with the holding reply.
"""

import asyncio
import logging
import time
from itertools import islice
from typing import Any, Dict, List, NamedTuple, Optional

from async_timeout import Timeout, timeout  # a dependency of aiohttp; `asyncio.wait_for` would make a task of each step
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
# A session start has at least this much time, even after the deadline, because the message must get on the tracker also
# if the turn fails. The time is a part of `runner.RESERVED_S`.
HEARING_S = 0.4


class ReplyChannel(CollectingOutputChannel):
    """The customer's channel, by name, since responses may depend on it. The replies are read from the turn's events.

    Attributes:
        checkpoint: how many of the tracker's events are kept if the action under way fails.
    """

    def __init__(self, name: str, checkpoint: int) -> None:
        super().__init__()
        self._name = name
        self.checkpoint = checkpoint

    def name(self) -> str:  # type: ignore[override]
        """Return the customer's channel."""
        return self._name


class Utterance(NamedTuple):
    """The message that a turn puts on the tracker: the customer's text, or the trigger of a timer.

    Attributes:
        text: the text that Rasa reads.
        metadata: the message's metadata, which actions read.
        must_reply: whether a turn that would end without a reply gets the reply for a failed action.
        tells_failure: whether the customer is told of a failure.
    """

    text: str
    metadata: Dict[str, Any]
    must_reply: bool = True
    tells_failure: bool = True


class Turn:
    """The processing of one event of the inbox by Rasa: its tracker, its deadline, its new events."""

    def __init__(
        self,
        processor: TurnProcessor,
        nlg: NaturalLanguageGenerator,
        live: LiveConversation,
        event: InboxEvent,
        channel: str,
        deadline: float,
    ) -> None:
        """Create a turn that has not begun.

        Args:
            processor: Rasa with the serving model loaded.
            nlg: makes the platform's own responses.
            live: the conversation, as the store has it.
            event: the cause of the turn.
            channel: the customer's channel.
            deadline: when the turn must end, by the monotonic clock in s.
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
        """Return the events that this turn added to the tracker."""
        events = self.live.tracker.events
        return list(islice(reversed(events), len(events) - self._before))[::-1]

    def put(self, *events: Event) -> None:
        """Put events on the conversation's tracker."""
        for event in events:
            self.live.tracker.update(event, self.processor.domain)

    async def run(self, utterance: Utterance, parsed: "asyncio.Future[Dict[str, Any]]") -> None:
        """Let Rasa answer a message. If NLU or Rasa is late, the answer is the holding reply, as if NLU fails.

        If an action fails, the answer is the reply for a failed action.

        Args:
            utterance: the message for the tracker.
            parsed: NLU's result for the message.
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
        """Wait for NLU. Return False if it failed or is late; then the customer gets the holding reply."""
        started = time.monotonic()
        try:
            if not parsed.done():
                async with self._deadline_left():
                    # Other messages may wait for the same future, so this turn's deadline must not cancel it.
                    await asyncio.shield(parsed)
            result = parsed.result()
            # The same text of another customer shares the result, so copy the parts that Rasa changes.
            own = {"text": utterance.text, "entities": [dict(each) for each in result["entities"]]}
            self.parse_data = {**result, **own, "intent": dict(result["intent"])}
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
            except (asyncio.TimeoutError, ActionFailed) as error:  # raised below, when the message is on the tracker
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
            if self._calls.made:  # this time is also part of the stage `dialogue`
                self.stages_ms["action"] = self._calls.waited_s * 1000

    async def _instead(self, utterance: Utterance, reply: str) -> None:
        """Remove the unfinished action's events from the tracker, and say `reply`."""
        self._undo()
        if not utterance.tells_failure:
            self._listen()
        elif not self.live.tracker.is_paused():  # while a person answers the conversation, the assistant says nothing
            await self.say(reply)

    def _undo(self) -> None:
        """Remove the tracker's events after the checkpoint: those of the unfinished action."""
        done = list(self.live.tracker.events)[: self.channel.checkpoint]
        self.live.tracker = build_tracker(self.live.conversation, self.processor.view, done)

    async def say(self, reply: str) -> None:
        """Add one of the platform's own responses to the turn, then `action_listen`."""
        message = await self._nlg.generate(reply, self.live.tracker, self.channel.name())
        self.put(ActionExecuted(reply))
        if message:
            data = {key: value for key, value in message.items() if key not in ("text", "metadata", "id")}
            self.put(BotUttered(message.get("text"), data, {"utter_action": reply}))
        self._listen()

    async def _never_silent(self, utterance: Utterance) -> None:
        """Say the reply for a failed action if the model ended without a reply or without listening.

        A timer's turn may end without a reply: it only listens.
        """
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
    """Return a customer's message for the tracker.

    Its tenant and user are those of the token, never those that the customer sent: `client` holds the latter.

    Args:
        said: the message, with a text or a payload.
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
