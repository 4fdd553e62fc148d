"""DECIDE: Rasa's rule and memoization policies, looked up instead of searched.

They replace the trained policies when a model is loaded, and make the same decision at every step
(tests/worker/test_policies.py). A decision for the last few states of one conversation is remembered, and reused for
every conversation with the same last states.
"""

import base64
import copy
import json
import zlib
from typing import Any, Dict, Iterator, List, Optional, Tuple

from rasa.core.policies.memoization import MemoizationPolicy
from rasa.core.policies.policy import PolicyPrediction
from rasa.core.policies.rule_policy import (
    DO_NOT_PREDICT_LOOP_ACTION,
    LOOP_WAS_INTERRUPTED,
    RULES,
    RULES_FOR_LOOP_UNHAPPY_PATH,
    RULES_NOT_IN_STORIES,
    RulePolicy,
)
from rasa.shared.core.constants import ACTION_LISTEN_NAME, PREVIOUS_ACTION, USER
from rasa.shared.core.domain import Domain, State
from rasa.shared.core.trackers import DialogueStateTracker, get_active_loop_name
from rasa.shared.nlu.constants import ACTION_NAME, ACTION_TEXT, INTENT, TEXT

from kefu.worker.engine.domain_view import Snapshot
from kefu.worker.engine.graph import DirectGraphRunner
from kefu.worker.engine.states import History
from kefu.worker.engine.tracker import LiveTracker

MAX_REMEMBERED = 20_000  # limits the decisions that a policy remembers; beyond it all are dropped, and made again
# A decision of the rules: the predicted action, the key of the rule that decided, and whether the active loop goes on
# after an interruption.
Decision = Tuple[Optional[str], Optional[str], bool]


class QuickRulePolicy(RulePolicy):
    """A trained RulePolicy whose rules are indexed by the last action and the intent."""

    @classmethod
    def of(cls, policy: RulePolicy) -> "QuickRulePolicy":
        """Return the fast policy for a trained one."""
        quick = _as(cls, policy)
        hidden = frozenset(policy.lookup.get(RULES_NOT_IN_STORIES, ()))
        lookup = quick.lookup = {**policy.lookup, RULES_NOT_IN_STORIES: hidden}
        quick._rules = _Index(lookup.get(RULES, {}))
        quick._unhappy = _Index(lookup.get(RULES_FOR_LOOP_UNHAPPY_PATH, {}))
        quick._names_text = quick._rules.names_text or quick._unhappy.names_text
        quick._window = max(quick._rules.longest, quick._unhappy.longest, 1)
        quick._longest_hidden = max((_length(key) for key in hidden), default=0)
        quick._decisions = {}
        quick._predictions = {}
        return quick

    def predict_action_probabilities(
        self,
        tracker: DialogueStateTracker,
        domain: Domain,
        rule_only_data: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> PolicyPrediction:
        """Return the prediction for the tracker's last states."""
        history = tracker.history if isinstance(tracker, LiveTracker) else None
        # A conversation that is no longer than the longest rule outside of stories is left to Rasa: the source of its
        # prediction may depend on all states, which the key below doesn't have. See `_find_action_from_rules`.
        if history is None or history.count <= self._longest_hidden or self.config["use_nlu_confidence_as_score"]:
            return super().predict_action_probabilities(tracker, domain, rule_only_data, **kwargs)
        key = (
            *history.states(self._window),
            tracker.latest_action_name,
            tracker.active_loop_name,
            tracker.is_active_loop_rejected,
            tracker.latest_message.intent.get("name"),
            _text_of(tracker) if self._names_text else tracker.latest_message.use_text_for_featurization,
        )
        prediction = self._predictions.get(key)
        if prediction is None:
            prediction = super().predict_action_probabilities(tracker, domain, rule_only_data, **kwargs)
            _remember(self._predictions, key, _copied(prediction))
            return prediction
        return _copied(prediction)

    def _find_action_from_rules(
        self, tracker: DialogueStateTracker, domain: Domain, use_text_for_last_user_input: bool
    ) -> Decision:
        history = tracker.history if isinstance(tracker, LiveTracker) else None
        if history is None:
            return super()._find_action_from_rules(tracker, domain, use_text_for_last_user_input)
        if use_text_for_last_user_input and tracker.latest_action_name != ACTION_LISTEN_NAME:
            return None, None, False
        window = history.states(self._window)
        text = _text_of(tracker) if use_text_for_last_user_input else None
        # The exact text matters only if a rule names a text.
        key_text = text if self._names_text or text is None else ""
        key = (*window, tracker.active_loop_name, key_text)
        decision = self._decisions.get(key)
        if decision is None:
            states = [snapshot.copy() for snapshot in window]
            if text:
                states[-1].setdefault(USER, {})[TEXT] = text
            self.featurizer._choose_last_user_input([states], use_text_for_last_user_input)
            decision = self._decide(states, tracker.active_loop_name)
            _remember(self._decisions, key, decision)
        action, source, returning = decision
        if source is None and text is None and history.count <= self._longest_hidden:
            source = self._create_feature_key(self._prediction_states(tracker, domain))
        return action, source, returning

    def _decide(self, states: List[State], loop: Optional[str]) -> Decision:
        """Return the rules' decision for these states; its source is None if no rule matches."""
        newest_first = states[::-1]
        action, rule = None, ""
        matching = list(self._rules.matching(newest_first))
        if matching:
            rule = max(sorted(matching), key=len)
            action = self.lookup[RULES].get(rule)
        if not loop:
            return action, rule or None, False
        unhappy = {self.lookup[RULES_FOR_LOOP_UNHAPPY_PATH][key] for key in self._unhappy.matching(newest_first)}
        if action == ACTION_LISTEN_NAME and not get_active_loop_name(self._rule_key_to_state(rule)[-1]):
            if DO_NOT_PREDICT_LOOP_ACTION not in unhappy:
                return loop, rule, False
            action = None
        return action, rule or None, LOOP_WAS_INTERRUPTED in unhappy

    def _rule_prediction(self, *args: Any, **kwargs: Any) -> PolicyPrediction:
        prediction = super()._rule_prediction(*args, **kwargs)
        prediction.policy_name = RulePolicy.__name__
        return prediction


class QuickMemoizationPolicy(MemoizationPolicy):
    """A trained MemoizationPolicy whose keys are joined from the keys of the states, without compression."""

    @classmethod
    def of(cls, policy: MemoizationPolicy) -> "QuickMemoizationPolicy":
        """Return the fast policy for a trained one."""
        quick = _as(cls, policy)
        quick._window = policy.featurizer.max_history
        compressed = policy.config["enable_feature_string_compression"]
        quick._memories = {_decompressed(key) if compressed else key: action for key, action in policy.lookup.items()}
        return quick

    def predict_action_probabilities(
        self,
        tracker: DialogueStateTracker,
        domain: Domain,
        rule_only_data: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> PolicyPrediction:
        """Return the prediction for the tracker's last states."""
        history = tracker.history if isinstance(tracker, LiveTracker) else None
        if history is None:
            prediction = super().predict_action_probabilities(tracker, domain, rule_only_data, **kwargs)
        else:
            action = self._memories.get(_key_of(self._last_states(history)))
            probabilities = self._default_predictions(domain)
            if action is not None:
                probabilities = self._prediction_result(action, tracker, domain)
            prediction = self._prediction(probabilities)
        prediction.policy_name = MemoizationPolicy.__name__
        return prediction

    def _last_states(self, history: History) -> List[Snapshot]:
        """Return the last states, without those of an unlikely intent: the policy was not trained on them."""
        states = history.learned_states(self._window)
        if any(snapshot.is_unlikely_intent for snapshot in states):
            likely = [snapshot for snapshot in history.learned_states() if not snapshot.is_unlikely_intent]
            return likely[-self._window :] if self._window else likely
        return states


class _Index:
    """Rules, indexed by the action and the intent of their last state. The other states are compared one by one."""

    def __init__(self, lookup: Dict[str, str]) -> None:
        self.names_text = False
        self.longest = 0
        self._rules: Dict[Tuple[Optional[str], Optional[str]], List[Tuple[str, List[State]]]] = {}
        for key in lookup:
            newest_first = json.loads(key)[::-1]
            self.longest = max(self.longest, len(newest_first))
            self.names_text = self.names_text or any(TEXT in state.get(USER, {}) for state in newest_first)
            intent = newest_first[0].get(USER, {}).get(INTENT)
            self._rules.setdefault((_action_of(newest_first[0]), intent), []).append((key, newest_first))

    def matching(self, states: List[State]) -> Iterator[str]:
        """Yield the keys of the rules that apply to a conversation's states, newest first."""
        action = _action_of(states[0])
        for intent in {states[0].get(USER, {}).get(INTENT), None}:
            for key, rule in self._rules.get((action, intent), ()):
                if all(map(_matches, rule, states)):
                    yield key


def _matches(rule: State, state: State) -> bool:
    """Return whether a conversation's state matches a rule's state. Source: RulePolicy._is_rule_applicable."""
    if PREVIOUS_ACTION not in rule or PREVIOUS_ACTION not in state:
        # A state without an action is the beginning of a conversation, and matches only another beginning.
        return PREVIOUS_ACTION not in rule and PREVIOUS_ACTION not in state
    return RulePolicy._does_rule_match_state(rule, state)


def _action_of(state: State) -> Optional[str]:
    action = state.get(PREVIOUS_ACTION, {})
    return action.get(ACTION_NAME) or action.get(ACTION_TEXT)


def _text_of(tracker: DialogueStateTracker) -> str:
    """Return the message's text for policies; empty once Rasa has decided that the intent counts instead."""
    message = tracker.latest_message
    return "" if message.use_text_for_featurization is False else message.text or ""


def _key_of(states: List[Snapshot]) -> str:
    """Return the key of a few states (oldest first) in Rasa's memoization, before its compression."""
    keys = [snapshot.key for snapshot in states[:-1]] + [snapshot.last_key for snapshot in states[-1:]]
    return f"[{', '.join(keys)}]"


def _decompressed(key: str) -> str:
    """Return a key of Rasa's memoization, decompressed."""
    return zlib.decompress(base64.b64decode(key)).decode()


def _length(key: str) -> int:
    """Return how many states a rule's source names; 0 for a source that is no list of states."""
    return len(json.loads(key)) if key.startswith("[") else 0


def _as(kind: type, policy: Any) -> Any:
    """Return a policy of the class `kind` with everything that a trained policy has learned."""
    quick: Any = object.__new__(kind)
    quick.__dict__.update(policy.__dict__)
    return quick


def _copied(prediction: PolicyPrediction) -> PolicyPrediction:
    """Return a copy of a prediction, because Rasa's policy ensemble changes the predictions that it gets."""
    other = object.__new__(PolicyPrediction)
    other.__dict__.update(prediction.__dict__)
    other.probabilities = prediction.probabilities.copy()
    other.events = [copy.copy(event) for event in prediction.events]
    return other


def _remember(memory: Dict[Any, Any], key: Any, value: Any) -> None:
    if len(memory) >= MAX_REMEMBERED:
        memory.clear()
    memory[key] = value


def make_quick(runner: DirectGraphRunner) -> None:
    """Replace a loaded model's rule and memoization policies by the fast ones."""
    quick: Dict[type, Any] = {RulePolicy: QuickRulePolicy.of, MemoizationPolicy: QuickMemoizationPolicy.of}
    for node, component in runner.components.items():
        if type(component) in quick:
            runner.replace(node, quick[type(component)](component))
