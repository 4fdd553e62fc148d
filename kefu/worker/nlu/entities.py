"""The entity extractor: matches designers' patterns, checks each match, and gives it a normalised value.

In: messages with their text and, in their metadata, the time at which the customer wrote (`ts`, seconds since the
epoch; the present time if it is missing). Out: entities that don't overlap, with their values.
"""

import json
import re
import time
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Union

from rasa.engine.graph import ExecutionContext, GraphComponent
from rasa.engine.recipes.default_recipe import DefaultV1Recipe
from rasa.engine.storage.resource import Resource
from rasa.engine.storage.storage import ModelStorage
from rasa.nlu.extractors.extractor import EntityExtractorMixin
from rasa.shared.nlu.constants import ENTITIES, METADATA, TEXT
from rasa.shared.nlu.training_data.message import Message
from rasa.shared.nlu.training_data.training_data import TrainingData

from kefu.worker.nlu import dates, gate, names, patterns, places, values
from kefu.worker.nlu.patterns import Match, PatternMatcher
from kefu.worker.nlu.text import fold

_PATTERNS = "patterns.json"
_TIME = "ts"
# The order in which labels get their text, the most certain first: a match can't overlap one of an earlier label.
# Labels that are not listed come last.
_ORDER = "email phone id_card bank_card address amount date time product quantity person_name city".split()
_VALUES: Dict[str, Callable[[str, str], Optional[Any]]] = {
    "email": values.email,
    "id_card": values.id_card,
    "bank_card": values.bank_card,
    "phone": values.phone,
    "amount": values.amount,
    "time": dates.clock,
    "quantity": values.quantity,
    "address": values.as_written,
    "person_name": values.as_written,
}
_AS_WRITTEN = frozenset({"address", "person_name"})
_COUNTED = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_NUMBER_WORDS = re.compile(rf"\d|\b(?:{_COUNTED}|thir|fif|twen|for|a |half|dozen|hundred)", re.IGNORECASE)
# Entities of NumberReader. They are removed if they are part of another entity, such as a date or an amount.
_NUMBERS = frozenset({"number", "phone_last4", "order_number"})
_COUNT_BEFORE = re.compile(
    rf"(?<![\w.])(?P<count>\d{{1,3}}|{_COUNTED}|a couple|half a dozen|a dozen)"
    r"\s+(?:of (?:the )?(?:\d+ )?)?(?:(?!of)[a-z]+\s+)?$",
    re.IGNORECASE,
)
_BOUGHT = re.compile(r"[要买退换来订购只共加拿补](?:了|下单|下)?$")
_NOT_COUNTED = re.compile(
    r"\s*(?:days?|weeks?|months?|hours?|minutes?|years?|times?|percent|%|o'clock|of)\b|月|星期|礼拜|小时|钟|工作日|人|问题|号|电话|办法|原因|订单|地址|账号|快递|包裹"
)
_NOT_A_DAY = re.compile(r"楼|院|门|线|柜|库|店|机|码|链|仓|房|桌")


class _Found(NamedTuple):
    label: str
    start: int
    end: int
    value: Any


@DefaultV1Recipe.register(DefaultV1Recipe.ComponentType.ENTITY_EXTRACTOR, is_trainable=True)
class PatternEntityExtractor(EntityExtractorMixin, GraphComponent):
    """Finds entities by patterns, and addresses and names by the words around them."""

    @staticmethod
    def required_packages() -> List[str]:
        """Return the packages needed."""
        return ["spacy"]

    @staticmethod
    def get_default_config() -> Dict[str, Any]:
        """Return where the patterns are, and how far the shop's clock is ahead of UTC."""
        return {"patterns": "data/entities", "utc_offset_hours": 8}

    @classmethod
    def fingerprint_addon(cls, config: Dict[str, Any]) -> Optional[str]:
        """Return the patterns, so that Rasa's cache does not reuse what was trained with other patterns."""
        folder = Path(config.get("patterns", cls.get_default_config()["patterns"]))
        return json.dumps(patterns.read(folder), sort_keys=True) if folder.is_dir() else None

    def __init__(self, config: Dict[str, Any], storage: ModelStorage, resource: Resource) -> None:
        """Create an extractor without patterns."""
        self._storage = storage
        self._resource = resource
        self._folder = Path(config["patterns"])
        self._zone = timezone(timedelta(hours=config["utc_offset_hours"]))
        self._matcher: Optional[PatternMatcher] = None
        self._cities: frozenset[str] = frozenset()

    @classmethod
    def create(
        cls,
        config: Dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
    ) -> "PatternEntityExtractor":
        """Return an extractor that has not read its patterns yet."""
        return cls(config, model_storage, resource)

    def train(self, training_data: TrainingData) -> Resource:
        """Read the patterns and keep them in the model. Raises DesignError or ValueError for what is no pattern."""
        found = patterns.read(self._folder)
        said = (example.get(TEXT) or "" for example in training_data.training_examples)
        texts = ([token for token, _ in patterns.split(fold(text))] for text in said)
        stored = {"patterns": found, "gate": gate.opening(found, texts, patterns.split)}
        self._take(stored)
        with self._storage.write_to(self._resource) as folder:
            (folder / _PATTERNS).write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")
        return self._resource

    @classmethod
    def load(
        cls,
        config: Dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
        **kwargs: Any,
    ) -> "PatternEntityExtractor":
        """Return the extractor with the patterns of its training."""
        component = cls(config, model_storage, resource)
        with model_storage.read_from(resource) as folder:
            component._take(json.loads((folder / _PATTERNS).read_text(encoding="utf-8")))
        return component

    def _take(self, stored: Dict[str, Any]) -> None:
        self._matcher = PatternMatcher(stored["patterns"], stored["gate"])
        cities = (each["pattern"] for each in stored["patterns"] if each["label"] == "city")
        self._cities = frozenset(each for each in cities if isinstance(each, str))

    def process_training_data(self, training_data: TrainingData) -> TrainingData:
        """Return the training data unchanged, because no later component learns from these entities."""
        return training_data

    def process(self, messages: List[Message]) -> List[Message]:
        """Add the entities of each message and return the same messages."""
        if self._matcher is None:
            return messages
        folded = [fold(message.get(TEXT) or "") for message in messages]
        for message, text, matches in zip(messages, folded, self._matcher.find(folded), strict=True):
            found = self._chosen(text, matches, self._today(message))
            said = message.get(TEXT) or ""
            known = [each for each in message.get(ENTITIES, []) if not _is_part(each, found)]
            new = [
                {
                    "entity": each.label,
                    "start": each.start,
                    "end": each.end,
                    # Names and addresses as the customer writes them: 林志強, not 林志强.
                    "value": said[each.start : each.end] if each.label in _AS_WRITTEN else each.value,
                }
                for each in sorted(found, key=lambda each: each.start)
            ]
            message.set(ENTITIES, known + self.add_extractor_name(new), add_to_output=True)
        return messages

    def _today(self, message: Message) -> date:
        said = (message.get(METADATA) or {}).get(_TIME)
        return datetime.fromtimestamp(time.time() if said is None else said, self._zone).date()

    def _chosen(self, text: str, matches: List[Match], today: date) -> List[_Found]:
        """Return entities without overlaps, with values, chosen by `_ORDER` and then by the longest match."""
        candidates = [*matches, *self._described(text)]
        candidates.sort(key=lambda each: (_rank(each.label), each.start - each.end, each.start))
        taken: List[_Found] = []
        refused: List[Match] = []  # matches without a value: in "February 30", "30" alone is no date either
        for each in candidates:
            blocking: List[Union[_Found, Match]] = [*taken, *(other for other in refused if other.label == each.label)]
            if any(each.start < other.end and other.start < each.end for other in blocking):
                continue
            if each.label == "quantity" and not _counts(text, each, taken):
                continue
            value = _value(each, today, text)
            if value is None:
                refused.append(each)
                continue
            taken.append(_Found(each.label, each.start + _lead(text, each), each.end, value))
            if each.label == "product":
                taken.extend(_counted(text, each.start, taken))
        return taken

    def _described(self, text: str) -> Iterator[Match]:
        for start, end in places.addresses(text, self._cities):
            yield Match("address", "", start, end)
        for start, end in names.names(text):
            yield Match("person_name", "", start, end)


def _lead(text: str, found: Match) -> int:
    """Return the length of the part of a match before its number: of "ordered " in "ordered fifty"."""
    if found.label != "quantity":
        return 0
    words = text[found.start : found.end]
    counted = _NUMBER_WORDS.search(words) if words.isascii() else None
    return counted.start() if counted else 0


def _rank(label: str) -> int:
    return _ORDER.index(label) if label in _ORDER else len(_ORDER)


def _value(found: Match, today: date, text: str) -> Optional[Any]:
    words = text[found.start : found.end]
    if found.label == "date":
        bare = found.id == "cn" and words.endswith("号") and "月" not in words
        return None if bare and _NOT_A_DAY.match(text, found.end) else dates.day(words, found.id, today)
    make = _VALUES.get(found.label)
    return make(words, found.id) if make else found.id


def _counts(text: str, found: Match, taken: List[_Found]) -> bool:
    """Return whether a number with a measure word counts goods: 两个月, 第二个 and 有一个问题 don't."""
    words = text[found.start : found.end]
    if text[: found.start].endswith("第") or _NOT_COUNTED.match(text, found.end):
        return False
    if values.quantity(words, found.id) != "1":
        return True
    if words.isascii():
        return any(each.label == "product" and 0 <= each.start - found.end <= 2 for each in taken)
    goods = any(each.label == "product" and 0 <= each.start - found.end <= 4 for each in taken)
    return goods or bool(_BOUGHT.search(text[: found.start]))


def _counted(text: str, start: int, taken: List[_Found]) -> Iterator[_Found]:
    """Yield matches of a number that stands before a word for goods in English."""
    found = _COUNT_BEFORE.search(text[:start])
    if found is None or any(found.start("count") < each.end and each.start < found.end("count") for each in taken):
        return
    value = values.quantity(found.group("count"), "dozen" if "dozen" in found.group("count").lower() else "count")
    if value is not None:
        yield _Found("quantity", *found.span("count"), value)


def _is_part(entity: Dict[str, Any], found: List[_Found]) -> bool:
    """Return whether an entity of NumberReader is part of another entity, which replaces it."""
    if entity["entity"] not in _NUMBERS:
        return False
    return any(
        each.start < entity["end"] and entity["start"] < each.end
        for each in found
        if not (each.label == "phone" and entity["entity"] == "phone_last4")
    )
