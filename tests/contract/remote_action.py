"""Run by the worker's Python: Rasa's own form and RemoteAction, with the shipped domain, call an action server.

Arguments: the webhook's URL and the conversations as JSON, each `{"metadata", "turns": [{"text",
"entities"}]}`. Prints the responses of each conversation and its last slots, as JSON.
"""

import asyncio
import json
import sys
from typing import Any, Dict, List

from rasa.core.actions.action import action_for_name_or_text
from rasa.core.channels.channel import CollectingOutputChannel
from rasa.core.nlg import TemplatedNaturalLanguageGenerator
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import ActionExecuted, BotUttered, UserUttered
from rasa.shared.core.trackers import DialogueStateTracker
from rasa.utils.endpoints import EndpointConfig

FORM, ACTION = "track_order_form", "action_track_order"


class Conversation:
    """One tracker, driven as the assistant's rules would drive it."""

    def __init__(self, domain: Domain, endpoint: EndpointConfig) -> None:
        self.domain, self.endpoint = domain, endpoint
        self.tracker = DialogueStateTracker("demo:someone", domain.slots)
        self.nlg = TemplatedNaturalLanguageGenerator(domain.responses)
        self.said: List[str] = []

    async def hear(self, turn: Dict[str, Any], metadata: Dict[str, Any]) -> None:
        """Process one message: extract slots, run the form and, once the form is done, the look-up."""
        self.tracker.update(ActionExecuted("action_listen"), self.domain)
        intent = {"name": "inform" if self.tracker.active_loop_name else "track_order", "confidence": 1.0}
        self.tracker.update(
            UserUttered(turn["text"], intent, turn["entities"], message_id="m", metadata=metadata), self.domain
        )
        await self.run("action_extract_slots")
        await self.run(FORM)
        if not self.tracker.active_loop_name:
            await self.run(ACTION)

    async def run(self, name: str) -> None:
        """Run one action and keep its events."""
        action = action_for_name_or_text(name, self.domain, self.endpoint)
        events = await action.run(CollectingOutputChannel(), self.nlg, self.tracker, self.domain)
        self.tracker.update(ActionExecuted(name), self.domain)
        self.tracker.update_with_events(events, self.domain)
        self.said += [event.metadata["utter_action"] for event in events if isinstance(event, BotUttered)]


async def main(url: str, conversations: List[Dict[str, Any]]) -> None:
    """Run all conversations and print their outcomes."""
    domain, outcome = Domain.load("domain.yml"), []
    for script in conversations:
        conversation = Conversation(domain, EndpointConfig(url))
        for turn in script["turns"]:
            await conversation.hear(turn, script["metadata"])
        slots = {name: slot.value for name, slot in conversation.tracker.slots.items()}
        last = next(event.text for event in reversed(conversation.tracker.events) if isinstance(event, BotUttered))
        outcome.append({"said": conversation.said, "slots": slots, "last": last})
    print(json.dumps(outcome))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
