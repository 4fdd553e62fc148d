"""Rasa's MessageProcessor, entered for a unit of work: nothing leaves before the turn is stored.

Overridden: loading (a model is loaded once, beside), saving, sending, reminders, the swallowing
of failed actions, and session expiry, which goes by the message's own time. See FIELD.md.
"""

import asyncio
import contextvars
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from rasa.core.actions.action import Action, ActionExecutionRejection
from rasa.core.channels.channel import OutputChannel, UserMessage
from rasa.core.processor import MessageProcessor
from rasa.engine.constants import PLACEHOLDER_MESSAGE, PLACEHOLDER_TRACKER
from rasa.engine.runner.interface import GraphRunner
from rasa.engine.storage.storage import ModelMetadata
from rasa.shared.core.events import Event
from rasa.shared.core.trackers import DialogueStateTracker

from kefu.errors import ActionFailed
from kefu.worker import lean
from kefu.worker.timers.rules import is_external, last_said

# The time of the message under way, in seconds since the epoch; None for Rasa's own HTTP calls.
MESSAGE_TIME: "contextvars.ContextVar[Optional[float]]" = contextvars.ContextVar("kefu_message_time", default=None)


class LoadedModel(NamedTuple):
    """A model in memory, as `MessageProcessor._load_model` returns it."""

    filename: str
    metadata: ModelMetadata
    runner: GraphRunner

    @classmethod
    def from_path(cls, path: str) -> "LoadedModel":
        """Load a model. Blocks for seconds: call it in a thread. Raises what Rasa raises."""
        lean.make_fit(path)
        return cls(*MessageProcessor._load_model(path))


class _GuardedAction:
    """An action whose failure is kept: MessageProcessor logs it and goes on as if all were well."""

    def __init__(self, action: Action) -> None:
        self._action = action
        self.failure: Optional[Exception] = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._action, name)

    async def run(self, *args: Any, **kwargs: Any) -> List[Event]:
        try:
            return await self._action.run(*args, **kwargs)
        except ActionExecutionRejection:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again by _run_action
            self.failure = error
            return []


class TurnProcessor(MessageProcessor):
    """Runs Rasa's steps on a tracker in memory; whoever calls it stores the outcome."""

    def __init__(self, model: LoadedModel, **kwargs: Any) -> None:
        self._model = model
        super().__init__(model_path=model.filename, **kwargs)

    def _load_model(self, model_path: Any) -> Tuple[str, ModelMetadata, GraphRunner]:  # type: ignore[override]
        return self._model

    def parse_batch(self, conversation: str, texts: List[str]) -> List[Dict[str, Any]]:
        """Return the parse data of each text, in order. Blocks: runs NLU once over all of them.

        Args:
            conversation: a name for the batch; Rasa wants a sender.
            texts: a text that starts with `/` is an intent command here: callers neutralise it.
        """
        messages = [UserMessage(text, sender_id=conversation) for text in texts]
        nothing = DialogueStateTracker.from_events(conversation, [])
        target = self.model_metadata.nlu_target
        results = self.graph_runner.run(
            inputs={PLACEHOLDER_MESSAGE: messages, PLACEHOLDER_TRACKER: nothing}, targets=[target]
        )
        return [self._as_parse_data(parsed) for parsed in results[target]]

    def _as_parse_data(self, parsed: Any) -> Dict[str, Any]:
        empty = {"text": "", "intent": {"name": None, "confidence": 0.0}, "entities": []}
        parse_data = {**empty, **parsed.as_dict(only_output_properties=True)}
        self._update_full_retrieval_intent(parse_data)
        return parse_data

    async def start_session_if_due(self, tracker: DialogueStateTracker, channel: OutputChannel) -> None:
        """Start a session in a new conversation, or after the idle time of the domain."""
        await self._update_tracker_session(tracker, channel)

    async def decide(self, tracker: DialogueStateTracker, channel: OutputChannel) -> None:
        """Fill slots from the tracker's latest message, then act until the assistant listens.

        The words of an external message (`EXTERNAL: intent`) are nobody's: no slot is filled from them.

        Raises:
            ActionFailed: an action failed; the tracker may hold part of what it did.
        """
        heard = tracker.latest_message
        words = heard.text
        try:
            heard.text = None if is_external(heard) else words
            await self.run_action_extract_slots(channel, tracker)
        except Exception as error:  # a remote slot validation fails in many ways
            raise ActionFailed("action_extract_slots", error.__class__.__name__) from error
        finally:
            heard.text = words
        await self._run_prediction_loop(channel, tracker)

    async def _run_action(
        self, action: Action, tracker: DialogueStateTracker, output_channel: OutputChannel, nlg: Any, prediction: Any
    ) -> bool:
        # Until it has succeeded, nothing of this action counts: see `turn.ReplyChannel.checkpoint`.
        output_channel.checkpoint = len(tracker.events)  # type: ignore[attr-defined]
        guarded = _GuardedAction(action)
        goes_on = await super()._run_action(guarded, tracker, output_channel, nlg, prediction)  # type: ignore[arg-type]
        if guarded.failure is not None:
            raise ActionFailed(action.name(), guarded.failure.__class__.__name__) from guarded.failure
        output_channel.checkpoint = len(tracker.events)  # type: ignore[attr-defined]
        await asyncio.sleep(0)  # let other conversations of the poll move on between two actions
        return goes_on

    def _has_session_expired(self, tracker: DialogueStateTracker) -> bool:
        now = MESSAGE_TIME.get()
        return super()._has_session_expired(tracker) if now is None else self.session_over(tracker, now)

    def session_over(self, tracker: DialogueStateTracker, now: float) -> bool:
        """Return whether at `now` (s since the epoch) the customer has been silent for too long to go on."""
        last = last_said(tracker.events)
        config = self.domain.session_config
        if last is None or not config.are_sessions_enabled():
            return False
        return now - last.timestamp > config.session_expiration_time * 60

    async def save_tracker(self, tracker: DialogueStateTracker) -> None:
        """Save nothing: `kefu.worker.inbox` stores a turn as a whole."""

    @staticmethod
    async def _send_bot_messages(events: List[Event], tracker: DialogueStateTracker, output_channel: Any) -> None:
        """Send nothing: replies leave with the turn's write."""

    async def _schedule_reminders(self, events: List[Event], tracker: Any, output_channel: Any) -> None:
        """Schedule nothing in this process: it would die with it. The events stay in the tracker."""

    @staticmethod
    async def _cancel_reminders(events: List[Event], tracker: DialogueStateTracker) -> None:
        """Cancel nothing: nothing is scheduled in this process."""
