"""Rasa's MessageProcessor for one turn in memory: nothing is sent or saved before the turn is stored.

Overridden are: loading (the model is loaded once, outside), saving, sending, reminders, failed actions (Rasa swallows
them), and session expiry (by the message's own time). See FIELD.md.
"""

import contextvars
import time
from typing import Any, Dict, List, Optional, Tuple

from rasa.core.actions.action import Action, ActionBotResponse, ActionExecutionRejection, ActionListen
from rasa.core.channels.channel import OutputChannel, UserMessage
from rasa.core.nlg import NaturalLanguageGenerator
from rasa.core.policies.policy import PolicyPrediction
from rasa.core.processor import MessageProcessor
from rasa.engine.constants import PLACEHOLDER_MESSAGE, PLACEHOLDER_TRACKER
from rasa.engine.storage.storage import ModelMetadata
from rasa.exceptions import ActionLimitReached
from rasa.graph_components.providers.rule_only_provider import RuleOnlyDataProvider
from rasa.shared.core.constants import ACTION_EXTRACT_SLOTS, ACTION_LISTEN_NAME, ACTION_SESSION_START_NAME
from rasa.shared.core.events import ActionExecuted, ActionExecutionRejected, Event, UserUttered
from rasa.shared.core.trackers import DialogueStateTracker

from kefu.errors import ActionFailed
from kefu.worker.act.bot_actions import BotActions
from kefu.worker.conversation.messages import is_external, last_said
from kefu.worker.engine.domain_view import DomainView
from kefu.worker.engine.graph import DirectGraphRunner
from kefu.worker.engine.model import LoadedModel
from kefu.worker.engine.tracker import LiveTracker

# The time of the current message, in seconds since the epoch; None for Rasa's own HTTP calls.
MESSAGE_TIME: "contextvars.ContextVar[Optional[float]]" = contextvars.ContextVar("kefu_message_time", default=None)
# Actions that only read the tracker and never reject: they need no copy of it.
_READERS = (ActionListen, ActionBotResponse)


class TurnProcessor(MessageProcessor):
    """Runs Rasa's steps on a tracker in memory. The caller stores the outcome."""

    def __init__(self, model: LoadedModel, **kwargs: Any) -> None:
        self._model = model
        super().__init__(model_path=model.filename, **kwargs)
        self._actions = BotActions(self.domain, self.action_endpoint)
        self._listens = {ACTION_LISTEN_NAME, ACTION_SESSION_START_NAME}
        self.view = DomainView(self.domain, rule_only(model.runner))

    def _load_model(self, model_path: Any) -> Tuple[str, ModelMetadata, DirectGraphRunner]:  # type: ignore[override]
        return self._model

    def parse_batch(
        self, conversation: str, texts: List[str], times: Optional[List[float]] = None
    ) -> List[Dict[str, Any]]:
        """Return the parse data of each text, in order. Blocks: runs NLU once over all texts.

        Args:
            conversation: a name for the batch; Rasa requires a sender.
            texts: the texts. A leading `/` makes a text an intent command, so callers neutralise it.
            times: when each text was said, in s since the epoch, for words like "yesterday"; None for now.
        """
        sent = times or [time.time()] * len(texts)
        messages = [
            UserMessage(text, sender_id=conversation, metadata={"ts": ts}) for text, ts in zip(texts, sent, strict=True)
        ]
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

    def session_due(self, tracker: LiveTracker) -> bool:
        """Return whether the conversation is new, or its session has expired by the domain's setting."""
        return not tracker.has_begun or self._has_session_expired(tracker)

    async def start_session(self, tracker: LiveTracker, channel: OutputChannel) -> None:
        """Run Rasa's `action_session_start` and put its events on the tracker."""
        start = PolicyPrediction.for_action_name(self.domain, ACTION_SESSION_START_NAME)
        await self._run_action(self._actions[ACTION_SESSION_START_NAME], tracker, channel, self.nlg, start)

    async def decide(self, tracker: DialogueStateTracker, channel: OutputChannel) -> None:
        """Fill slots from the tracker's latest message, then act until the assistant listens.

        The text of an external message (`EXTERNAL: intent`) is not the customer's, so no slot is filled from it.

        Raises:
            ActionFailed: an action failed; the tracker may hold a part of its events.
        """
        message = tracker.latest_message
        words = message.text
        try:
            message.text = None if is_external(message) else words
            await self.run_action_extract_slots(channel, tracker)
        except Exception as error:  # a remote slot validation may raise anything
            raise ActionFailed("action_extract_slots", error.__class__.__name__) from error
        finally:
            message.text = words
        await self._run_prediction_loop(channel, tracker)

    def predict_next_with_tracker_if_should(self, tracker: LiveTracker) -> Tuple[Action, PolicyPrediction]:
        """Return the action that the policies predict for the tracker, and their prediction.

        Raises:
            ActionLimitReached: the turn has run as many actions as Rasa allows, and would go on.
        """
        goes_on = self.should_predict_another_action(tracker.latest_action_name)
        if self.is_action_limit_reached(tracker, goes_on):
            raise ActionLimitReached("The limit of actions to predict has been reached.")
        prediction = self._predict_next_with_tracker(tracker)
        return self._actions[self.domain.action_names_or_texts[prediction.max_confidence_index]], prediction

    def is_action_limit_reached(self, tracker: LiveTracker, should_predict_another_action: bool) -> bool:
        """Return whether this turn has run the largest number of actions, and another one would follow."""
        executed = 0
        for event in reversed(tracker.events):
            if type(event) is ActionExecuted:
                if event.action_name in self._listens:
                    break
                executed += 1
        return executed >= self.max_number_of_predictions and should_predict_another_action

    def _get_action(self, action_name: str) -> Action:
        return self._actions[action_name]

    async def run_action_extract_slots(self, output_channel: OutputChannel, tracker: LiveTracker) -> LiveTracker:
        """Fill slots from the tracker's latest message; return the same tracker."""
        extract = self._actions[ACTION_EXTRACT_SLOTS]
        tracker.update_with_events(await extract.run(output_channel, self.nlg, tracker, self.domain), self.domain)
        return tracker

    async def _run_action(
        self,
        action: Action,
        tracker: LiveTracker,
        output_channel: OutputChannel,
        nlg: NaturalLanguageGenerator,
        prediction: PolicyPrediction,
    ) -> bool:
        """Run an action and put its events on the tracker; return whether to predict another action.

        Raises:
            ActionFailed: the action failed. Stock Rasa logs the failure and goes on.
        """
        # The action's events count only after it has succeeded, see `turn.ReplyChannel.checkpoint`.
        output_channel.checkpoint = len(tracker.events)  # type: ignore[attr-defined]
        view = tracker
        if type(action) not in _READERS:
            view = tracker.copy()  # if the action rejects its execution, the tracker has no events of the prediction
            view.update_with_events(prediction.events, self.domain)
        try:
            events = await action.run(output_channel, nlg, view, self.domain) or []
        except ActionExecutionRejection:
            rejected = ActionExecutionRejected(action.name(), prediction.policy_name, prediction.max_confidence)
            tracker.update(rejected)
            return self.should_predict_another_action(action.name())
        except Exception as error:
            raise ActionFailed(action.name(), error.__class__.__name__) from error
        self._log_action_on_tracker(tracker, action, events, prediction)
        if any(type(event) is UserUttered for event in events):
            await self.run_action_extract_slots(output_channel, tracker)
        output_channel.checkpoint = len(tracker.events)  # type: ignore[attr-defined]
        return self.should_predict_another_action(action.name())

    def _log_action_on_tracker(
        self, tracker: LiveTracker, action: Action, events: List[Event], prediction: PolicyPrediction
    ) -> None:
        if not any(type(event) is ActionExecutionRejected for event in events):
            tracker.update_with_events(prediction.events, self.domain)
            tracker.update(action.event_for_successful_execution(prediction))
        tracker.update_with_events(events, self.domain)

    def _has_session_expired(self, tracker: DialogueStateTracker) -> bool:
        now = MESSAGE_TIME.get()
        return super()._has_session_expired(tracker) if now is None else self.session_over(tracker, now)

    def session_over(self, tracker: DialogueStateTracker, now: float) -> bool:
        """Return whether the session has expired at `now` (s since the epoch), by the customer's last message."""
        last = last_said(tracker.events)
        config = self.domain.session_config
        if last is None or not config.are_sessions_enabled():
            return False
        return now - last.timestamp > config.session_expiration_time * 60

    async def save_tracker(self, tracker: DialogueStateTracker) -> None:
        """Save nothing, because `kefu.worker.inbox.protocol` stores the whole turn."""

    async def execute_side_effects(self, events: List[Event], tracker: Any, output_channel: Any) -> None:
        """Send nothing and schedule nothing, because replies and timers are part of the turn's write."""


def rule_only(runner: DirectGraphRunner) -> Dict[str, List[str]]:
    """Return the slots and loops that occur in rules only, as the model gives them to its policies."""
    provider = next((each for each in runner.components.values() if type(each) is RuleOnlyDataProvider), None)
    return provider.provide() if provider is not None else {}
