"""ACT: Rasa's actions, created once per model, without the look-ups that Rasa repeats at each run.

Each action has the same effect on a tracker as Rasa's. Source: rasa 3.6.21, `rasa.core.actions`.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Set

from rasa.core.actions.action import (
    Action,
    ActionExtractSlots,
    RemoteAction,
    action_for_name_or_text,
    extract_slot_value_from_predefined_mapping,
)
from rasa.core.actions.forms import FormAction
from rasa.shared.core.constants import (
    ACTION_EXTRACT_SLOTS,
    DEFAULT_SLOT_NAMES,
    MAPPING_TYPE,
    REQUESTED_SLOT,
    SlotMappingType,
)
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import ActionExecuted, BotUttered, ConversationPaused, Event, Restarted, SlotSet
from rasa.shared.core.slot_mappings import SlotMapping
from rasa.shared.core.slots import ListSlot, Slot
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.utils.endpoints import EndpointConfig

from kefu.worker.act.remote_action import QuickRemoteAction

HAND_OVER = "action_hand_over"
OFFER = "offered"  # the slot in which the dialogue notes that the assistant has offered a person


class BotActions:
    """The actions of a domain by name. They keep no state of a conversation."""

    def __init__(self, domain: Domain, endpoint: Optional[EndpointConfig]) -> None:
        self._domain = domain
        self._endpoint = endpoint
        self._made: Dict[str, Action] = {}

    def __getitem__(self, name: str) -> Action:
        """Return the action of this name; it is created when it is first asked for. Raises ActionNotFoundException."""
        action = self._made.get(name)
        if action is None:
            action = self._made[name] = self._make(name)
        return action

    def _make(self, name: str) -> Action:
        action = action_for_name_or_text(name, self._domain, self._endpoint)
        if name == HAND_OVER:
            return HandOver()
        if type(action) is RemoteAction:
            return QuickRemoteAction(name, self._endpoint)
        if type(action) is FormAction:
            return QuickFormAction(name, self._endpoint, self)
        if type(action) is ActionExtractSlots:
            return QuickExtractSlots(self._domain, self)
        return action


class HandOver(Action):
    """Asks for a person. Runs in the worker, because a person is most needed when the action server is away.

    `kefu.worker.turns.handoff` does the rest once the assistant is paused, including the reply to the customer.
    """

    def name(self) -> str:
        """Return the action's name in the domain."""
        return HAND_OVER

    async def run(self, output_channel: Any, nlg: Any, tracker: Any, domain: Domain) -> List[Event]:
        """Return the event that pauses the assistant; if the assistant had offered a person, also clear that slot."""
        cleared = [SlotSet(OFFER, None)] if tracker.get_slot(OFFER) is not None else []
        return [*cleared, ConversationPaused()]


class QuickFormAction(FormAction):
    """A form that tries events on a copy of the tracker instead of replaying the conversation."""

    def __init__(self, name: str, endpoint: Optional[EndpointConfig], actions: "BotActions") -> None:
        super().__init__(name, endpoint)
        self._actions = actions

    async def validate_slots(
        self, slot_candidates: Dict[str, Any], tracker: Any, domain: Domain, output_channel: Any, nlg: Any
    ) -> List[Event]:
        """Return the events of the form's validation action; nothing if the form has none."""
        name = f"validate_{self.name()}"
        if name not in domain.action_names_or_texts:
            return []
        given = self._temporary_tracker(tracker, [SlotSet(*slot) for slot in slot_candidates.items()], domain)
        return await QuickRemoteAction(name, self.action_endpoint).run(output_channel, nlg, given, domain)

    async def activate(self, output_channel: Any, nlg: Any, tracker: Any, domain: Domain) -> List[Event]:
        """Return the slots of the message that opened the form, validated."""
        extracted = await self._actions[ACTION_EXTRACT_SLOTS].run(output_channel, nlg, tracker, domain)
        tracker.update_with_events(extracted, domain)
        slots = [event for event in extracted if type(event) is SlotSet]
        if f"validate_{self.name()}" not in domain.action_names_or_texts:
            return slots
        values = {name: tracker.get_slot(name) for name in self.required_slots(domain)}
        given = {name: value for name, value in values.items() if value is not None}
        checked = await self.validate_slots(given, tracker, domain, output_channel, nlg)
        named = {event.key for event in checked if type(event) is SlotSet}
        return [*checked, *(slot for slot in slots if slot.key not in named)]

    async def _ask_for_slot(
        self, domain: Domain, nlg: Any, output_channel: Any, slot_name: str, tracker: DialogueStateTracker
    ) -> List[Event]:
        name = self._name_of_utterance(domain, slot_name)
        return await self._actions[name].run(output_channel, nlg, tracker, domain) if name else []

    def _temporary_tracker(
        self, current_tracker: DialogueStateTracker, additional_events: List[Event], domain: Domain
    ) -> DialogueStateTracker:
        requested = SlotSet(REQUESTED_SLOT, self.get_slot_to_fill(current_tracker))
        tracker = current_tracker.copy()
        for event in [requested, ActionExecuted(self.name()), *additional_events]:
            tracker.update(event, domain)
        return tracker

    def _get_slot_extractions(self, tracker: DialogueStateTracker, domain: Domain) -> Dict[str, Any]:
        required = self._add_dynamic_slots_requested_by_dynamic_forms(tracker, domain)
        values: Dict[str, Any] = {}
        for event in _since_last_message(tracker):
            if event.key in required:
                self._update_slot_values(event, tracker, domain, values)
        return values


class _Mapping(NamedTuple):
    """A slot mapping that can fill its slot."""

    slot: Slot
    kind: SlotMappingType
    spec: Dict[str, Any]


class QuickExtractSlots(ActionExtractSlots):
    """Fills slots from the mappings that can apply to a message. Mappings that never apply are left out."""

    def __init__(self, domain: Domain, actions: BotActions) -> None:
        super().__init__(actions._endpoint)
        self._actions = actions
        self._slots = [
            mappings
            for slot in domain.slots
            if slot.name not in DEFAULT_SLOT_NAMES
            for mappings in [_usable_mappings(slot, domain)]
            if mappings
        ]

    async def run(self, output_channel: Any, nlg: Any, tracker: Any, domain: Domain) -> List[Event]:
        """Return SlotSet events for the slots that the latest message fills."""
        entities = {entity.get("entity") for entity in tracker.latest_message.entities}
        events: List[Event] = []
        called: Set[str] = set()
        for mappings in self._slots:
            for mapping in mappings:
                if mapping.kind is SlotMappingType.FROM_ENTITY and mapping.spec["entity"] not in entities:
                    continue
                if not self._applies(mapping, tracker, domain):
                    continue
                event = self._filled(mapping, tracker)
                if event is not None:
                    events.append(event)
                    break
                if mapping.kind is SlotMappingType.CUSTOM:
                    made, called = await self._execute_custom_action(
                        mapping.spec, called, output_channel, nlg, tracker, domain
                    )
                    events.extend(made)
        return await self._execute_validation_action(events, output_channel, nlg, tracker, domain)

    async def _run_custom_action(
        self, custom_action: str, output_channel: Any, nlg: Any, tracker: DialogueStateTracker, domain: Domain
    ) -> List[Event]:
        """Call a custom action that fills or checks slots; return its SlotSet and BotUttered events.

        A failure is raised. Stock Rasa would log it and treat the slots as checked.
        """
        action = QuickRemoteAction(custom_action, self._action_endpoint)
        events = await action.run(output_channel, nlg, tracker, domain)
        return [event for event in events if type(event) in (SlotSet, BotUttered)]

    def _applies(self, mapping: _Mapping, tracker: DialogueStateTracker, domain: Domain) -> bool:
        return (
            SlotMapping.intent_is_desired(mapping.spec, tracker, domain)
            and self._verify_mapping_conditions(mapping.spec, tracker, mapping.slot.name)
            and not self._fails_unique_entity_mapping_check(mapping.slot.name, mapping.spec, tracker, domain)
        )

    @staticmethod
    def _filled(mapping: _Mapping, tracker: DialogueStateTracker) -> Optional[SlotSet]:
        if mapping.kind is SlotMappingType.CUSTOM:
            return None
        values = extract_slot_value_from_predefined_mapping(mapping.kind, mapping.spec, tracker)
        if not values:
            return None
        value = values if isinstance(mapping.slot, ListSlot) else values[-1]
        if value is None and tracker.get_slot(mapping.slot.name) is None:
            return None
        return SlotSet(mapping.slot.name, value)

    def _fails_unique_entity_mapping_check(
        self, slot_name: str, mapping: Dict[str, Any], tracker: DialogueStateTracker, domain: Domain
    ) -> bool:
        form_name = tracker.active_loop_name
        if mapping[MAPPING_TYPE] != str(SlotMappingType.FROM_ENTITY) or not form_name:
            return False
        if tracker.get_slot(REQUESTED_SLOT) == slot_name:
            return False
        form = self._actions[form_name]  # always the same object, because it remembers its unique mappings
        if not isinstance(form, FormAction):  # the domain has a custom action with the form's name
            return super()._fails_unique_entity_mapping_check(slot_name, mapping, tracker, domain)
        return slot_name in form.required_slots(domain) and not form.entity_mapping_is_unique(mapping, domain)


def _usable_mappings(slot: Slot, domain: Domain) -> List[_Mapping]:
    mappings = []
    for spec in slot.mappings:
        kind = SlotMappingType(spec.get(MAPPING_TYPE))
        valid = SlotMapping.check_mapping_validity(slot_name=slot.name, mapping_type=kind, mapping=spec, domain=domain)
        # A custom mapping without an action is filled by other actions, never here.
        if valid and (kind is not SlotMappingType.CUSTOM or spec.get("action")):
            mappings.append(_Mapping(slot, kind, spec))
    return mappings


def _since_last_message(tracker: DialogueStateTracker) -> List[SlotSet]:
    """Return the slots set since the latest message, oldest first."""
    slots: List[SlotSet] = []
    for event in reversed(tracker.events):
        if event is tracker.latest_message or type(event) is Restarted:
            break
        if type(event) is SlotSet:
            slots.append(event)
    return slots[::-1]
