"""The tokenizer and the two entity readers of the pipeline: lists of messages in and out."""

from typing import Any, Dict, List

from rasa.engine.graph import ExecutionContext, GraphComponent
from rasa.engine.recipes.default_recipe import DefaultV1Recipe
from rasa.engine.storage.resource import Resource
from rasa.engine.storage.storage import ModelStorage
from rasa.nlu.extractors.extractor import EntityExtractorMixin
from rasa.nlu.tokenizers.tokenizer import Token, Tokenizer
from rasa.shared.nlu.constants import ENTITIES, TEXT
from rasa.shared.nlu.training_data.message import Message

from kefu.worker.nlu.language import detect
from kefu.worker.nlu.numbers import find_numbers
from kefu.worker.nlu.text import fold, tokens


@DefaultV1Recipe.register(DefaultV1Recipe.ComponentType.MESSAGE_TOKENIZER, is_trainable=False)
class MixedTokenizer(Tokenizer):
    """Splits Chinese into characters and everything else into words, numbers and signs."""

    @staticmethod
    def get_default_config() -> Dict[str, Any]:
        """Return the settings that Rasa's tokenizers have; this one has no others."""
        return {"intent_tokenization_flag": False, "intent_split_symbol": "_", "token_pattern": None}

    def tokenize(self, message: Message, attribute: str) -> List[Token]:
        """Return the tokens of a message's attribute, with their positions in the text as typed."""
        return [Token(token, start) for token, start in tokens(fold(message.get(attribute)))]


class _EntityReader(GraphComponent, EntityExtractorMixin):
    """The base of both readers. It adds the entities that `read` returns to those of each message."""

    @classmethod
    def create(
        cls,
        config: Dict[str, Any],
        model_storage: ModelStorage,
        resource: Resource,
        execution_context: ExecutionContext,
    ) -> "_EntityReader":
        """Return a reader; there is nothing to configure or to load."""
        return cls()

    def process(self, messages: List[Message]) -> List[Message]:
        """Add the entities found in each message's text and return the same messages."""
        for message in messages:
            before = message.get(ENTITIES, [])
            found = self.add_extractor_name(self.read(message.get(TEXT) or "", before))
            message.set(ENTITIES, before + found, add_to_output=True)
        return messages

    def read(self, text: str, before: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Return the entities in `text`. `before` are those of the components before this one."""
        raise NotImplementedError


@DefaultV1Recipe.register(DefaultV1Recipe.ComponentType.ENTITY_EXTRACTOR, is_trainable=False)
class LanguageDetector(_EntityReader):
    """Adds an entity `language`, zh or en, at the first word of that language that is not part of another entity."""

    def read(self, text: str, before: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Return one entity; an empty list if the text has no words of either language."""
        found = detect(text, [(each["start"], each["end"]) for each in before])
        if found is None:
            return []
        return [{"entity": "language", "value": found.value, "start": found.start, "end": found.end}]


@DefaultV1Recipe.register(DefaultV1Recipe.ComponentType.ENTITY_EXTRACTOR, is_trainable=False)
class NumberReader(_EntityReader):
    """Adds entities `order_number`, `phone_last4` and `number`, whose values are digits only."""

    def read(self, text: str, before: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
        """Return the numbers in `text`."""
        return [
            {"entity": kind, "value": value, "start": start, "end": end}
            for kind, value, start, end in find_numbers(text)
        ]
