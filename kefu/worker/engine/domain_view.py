"""Computes the parts of dialogue states once per domain and remembers them. Equal states are one object.

A state is what a policy sees of a conversation: the latest message, the slots, the previous action, the active loop.
"""

import json
from typing import Any, Dict, FrozenSet, List, NamedTuple, Optional

from rasa.shared.core.constants import (
    ACTION_UNLIKELY_INTENT_NAME,
    ACTIVE_LOOP,
    LOOP_NAME,
    PREVIOUS_ACTION,
    RULE_ONLY_LOOPS,
    RULE_ONLY_SLOTS,
    SLOTS,
    USER,
)
from rasa.shared.core.domain import Domain, State
from rasa.shared.core.events import UserUttered
from rasa.shared.core.slots import Slot
from rasa.shared.core.trackers import is_prev_action_listen_in_state
from rasa.shared.nlu.constants import ACTION_NAME, ENTITIES, INTENT, TEXT

MAX_INTERNED = 20_000  # limits the states that all conversations share; beyond it all are dropped, and computed again


class Snapshot:
    """A state as a unique object: equal states of any conversations are the same snapshot.

    So policies can remember their decisions by the identity of the last few states.

    Attributes:
        key: this state's part of the key by which Rasa's MemoizationPolicy looks up a conversation's last states.
        last_key: the same part, for when this state is the last one. Then a message after `action_listen` counts by
            its intent, without its text. Source: rasa 3.6.21, `MemoizationPolicy._create_feature_key`,
            `TrackerFeaturizer._choose_last_user_input`.
    """

    __slots__ = ("is_unlikely_intent", "key", "last_key", "state")

    def __init__(self, state: State) -> None:
        self.state = state  # conversations share it, so it is never changed
        self.key = self.last_key = _key(state)
        if TEXT in state.get(USER, {}) and is_prev_action_listen_in_state(state):
            last = self.copy()
            del last[USER][TEXT]
            self.last_key = _key(last)
        self.is_unlikely_intent = state.get(PREVIOUS_ACTION, {}).get(ACTION_NAME) == ACTION_UNLIKELY_INTENT_NAME

    def copy(self) -> State:
        """Return a copy of the state that a policy may change."""
        return {name: dict(part) for name, part in self.state.items()}


def _key(state: State) -> str:
    return json.dumps(state, sort_keys=True).replace('"', "")


class DomainView:
    """Remembers the parts of dialogue states for one domain, and the states themselves.

    Attributes:
        slots: each slot at its initial value. They are never changed: a tracker replaces the slots that it sets.
        features: the sub-state of the slots at their initial values.
    """

    def __init__(self, domain: Domain, rule_only: Optional[Dict[str, List[str]]] = None) -> None:
        self.domain = domain
        self.rule_only = rule_only or {}
        self.rule_only_slots = frozenset(self.rule_only.get(RULE_ONLY_SLOTS, ()))
        self.rule_only_loops: FrozenSet[Optional[str]] = frozenset(self.rule_only.get(RULE_ONLY_LOOPS, ()))
        self.slots: Dict[str, Slot] = {slot.name: with_value(slot, slot.initial_value) for slot in domain.slots}
        for slot in self.slots.values():
            slot.reset()
        self._featurized = frozenset(name for name, slot in self.slots.items() if slot.has_features())
        self.features = Domain._get_slots_sub_state(_HasSlots(self.slots))
        self._interned: Dict[Any, Snapshot] = {}
        self._user_parts: Dict[Any, Dict[str, Any]] = {}  # many states share a part, so a part is never changed

    def set_feature(self, features: Dict[str, Any], name: str, value: Any) -> Dict[str, Any]:
        """Return `features` after a slot was set; the same object if nothing changed."""
        if name not in self._featurized:
            return features
        changed = {key: feature for key, feature in features.items() if key != name}
        changed.update(Domain._get_slots_sub_state(_HasSlots({name: with_value(self.slots[name], value)})))
        return changed

    def user_part(self, message: Optional[UserUttered]) -> Dict[str, Any]:
        """Return the sub-state of a message, without its text if it has an intent.

        Policies that use intents would otherwise drop the text later, for each state.
        """
        key = message and (
            message.intent_name,
            message.use_text_for_featurization,
            tuple((each.get("entity"), each.get("role"), each.get("group")) for each in message.entities),
        )
        part = self._user_parts.get(key)
        if part is None:
            part = self.domain._get_user_sub_state(_HasMessage(message))
            if INTENT in part:  # without an intent the part contains the text, which `key` doesn't: it isn't shared
                part.pop(TEXT, None)
                if len(self._user_parts) >= MAX_INTERNED:
                    self._user_parts.clear()
                self._user_parts[key] = part
        return part

    def snapshot(self, state: State) -> Snapshot:
        """Return the snapshot of this state. Equal states give the same object."""
        user, loop = state.get(USER), state.get(ACTIVE_LOOP)
        slots, action = state.get(SLOTS), state.get(PREVIOUS_ACTION)
        key = (
            user and (user.get(INTENT), user.get(ENTITIES), user.get(TEXT)),
            slots and frozenset(slots.items()),
            action and tuple(action.items()),
            loop and loop[LOOP_NAME],
        )
        snapshot = self._interned.get(key)
        if snapshot is None:
            if len(self._interned) >= MAX_INTERNED:
                self._interned.clear()
            snapshot = self._interned[key] = Snapshot(state)
        return snapshot


class _HasSlots(NamedTuple):
    """The part of a tracker that Rasa's featurization of slots reads."""

    slots: Dict[str, Slot]


class _HasMessage(NamedTuple):
    """The part of a tracker that Rasa's featurization of a message reads."""

    latest_message: Optional[UserUttered]


def with_value(slot: Slot, value: Any) -> Slot:
    """Return a new slot of the same kind that holds `value`."""
    fresh: Slot = object.__new__(type(slot))
    fresh.__dict__.update(slot.__dict__)
    fresh.value = value
    return fresh
