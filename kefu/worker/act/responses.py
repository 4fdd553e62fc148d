"""ANSWER: chooses the wording of the domain's responses, and fills in slots.

It is computed once which texts have blanks to fill. The variations that fit some slots and a channel are remembered.
"""

import random
from itertools import islice
from typing import Any, Dict, List, Optional, Tuple

import orjson
from rasa.core.nlg.generator import ResponseVariationFilter
from rasa.core.nlg.response import TemplatedNaturalLanguageGenerator
from rasa.shared.constants import RESPONSE_CONDITION
from rasa.shared.core.events import BotUttered
from rasa.shared.core.trackers import DialogueStateTracker

# Limits the remembered results of "which variations fit this response, channel and slots"; beyond it all are dropped.
MAX_REMEMBERED = 10_000
LAST_EVENTS = 60  # how many of a conversation's last events are searched for earlier wordings: about eight turns
Responses = Dict[str, List[Dict[str, Any]]]


class _Variation:
    """One wording of a response. `copy` returns a copy that the caller may change."""

    def __init__(self, response: Dict[str, Any]) -> None:
        self._encoded = orjson.dumps(response)
        # Rasa's interpolation looks for braces: a text without braces has no blanks.
        self.has_blanks = b"{" in orjson.dumps(list(_texts(response))) or b"}" in orjson.dumps(list(_texts(response)))

    def copy(self) -> Dict[str, Any]:
        return orjson.loads(self._encoded)


def _texts(value: Any) -> Any:
    """Yield all texts in a response."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


class QuickResponses(TemplatedNaturalLanguageGenerator):
    """Rasa's templated responses, with another choice among the variations that fit the slots and the channel.

    Rasa picks one at random. This class picks one that the customer has never got, or got longest ago, so that a
    customer who asks again gets another wording.
    Source: rasa 3.6.21, `TemplatedNaturalLanguageGenerator`.
    """

    def __init__(self, responses: Responses) -> None:
        super().__init__(responses)
        self._filter = ResponseVariationFilter(responses)
        self._variations = {id(each): _Variation(each) for variants in responses.values() for each in variants}
        self._slots = {name: _slots_in_conditions(variants) for name, variants in responses.items()}
        self._fitting: Dict[Any, List[_Variation]] = {}

    def generate_from_slots(
        self, utter_action: str, filled_slots: Dict[str, Any], output_channel: str, **kwargs: Any
    ) -> Optional[Dict[str, Any]]:
        """Return a message that fits the slots and the channel, None if none fits."""
        if utter_action not in self.responses:
            return None
        fitting = self._fit(utter_action, output_channel, filled_slots)
        if not fitting:
            return None
        return self._filled(random.choice(fitting), filled_slots, **kwargs)  # noqa: S311 - a wording, no secret

    async def generate(
        self, utter_action: str, tracker: DialogueStateTracker, output_channel: str, **kwargs: Any
    ) -> Optional[Dict[str, Any]]:
        """Return the fitting message that this conversation heard longest ago, or never; None if none fits."""
        slots = tracker.current_slot_values()
        fitting = self._fit(utter_action, output_channel, slots) if utter_action in self.responses else []
        if len(fitting) < 2:
            return self.generate_from_slots(utter_action, slots, output_channel, **kwargs)
        earlier = _heard(tracker)
        messages = (self._filled(each, slots, **kwargs) for each in random.sample(fitting, len(fitting)))
        return min(messages, key=lambda message: earlier.get(message.get("text"), 0))

    def _filled(self, chosen: _Variation, slots: Dict[str, Any], **kwargs: Any) -> Dict[str, Any]:
        message = chosen.copy()
        return self._fill_response(message, slots, **kwargs) if chosen.has_blanks else message

    def _fit(self, name: str, channel: str, slots: Dict[str, Any]) -> List[_Variation]:
        try:
            key: Tuple[Any, ...] = (name, channel, *(slots.get(slot) for slot in self._slots[name]))
            fitting = self._fitting.get(key)
        except TypeError:  # a slot in a condition holds a list, which can't be a part of a key
            return self._look_up(name, channel, slots)
        if fitting is None:
            if len(self._fitting) >= MAX_REMEMBERED:
                self._fitting.clear()
            fitting = self._fitting[key] = self._look_up(name, channel, slots)
        return fitting

    def _look_up(self, name: str, channel: str, slots: Dict[str, Any]) -> List[_Variation]:
        fitting = self._filter.responses_for_utter_action(name, channel, slots)
        return [self._variations[id(each)] for each in fitting]


def _heard(tracker: DialogueStateTracker) -> Dict[Optional[str], int]:
    """Return the assistant's texts among the last events, each with a number that is higher the later it was said."""
    last = islice(reversed(tracker.events), LAST_EVENTS)
    heard: Dict[Optional[str], int] = {}
    for ago, event in enumerate(last):
        if type(event) is BotUttered:
            heard.setdefault(event.text, LAST_EVENTS - ago)
    return heard


def _slots_in_conditions(variants: List[Dict[str, Any]]) -> Tuple[str, ...]:
    named = {constraint["name"] for each in variants for constraint in each.get(RESPONSE_CONDITION) or []}
    return tuple(sorted(named))
