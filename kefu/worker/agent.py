"""Rasa's Agent around a loaded model, without Rasa's FailSafeTrackerStore, which answers from memory if Redis fails."""

import asyncio
import logging
from typing import Any, List, Optional, Tuple

from rasa.core.agent import Agent
from rasa.core.channels.channel import UserMessage
from rasa.core.tracker_store import TrackerStore
from rasa.shared.core.domain import Domain

from kefu.errors import KefuError, UnsafeStart
from kefu.worker.act.action_endpoint import ActionEndpoint
from kefu.worker.act.bot_actions import HAND_OVER
from kefu.worker.act.responses import QuickResponses
from kefu.worker.broker import TurnBroker
from kefu.worker.engine.model import LoadedModel
from kefu.worker.engine.processor import TurnProcessor
from kefu.worker.lock import PartitionLock
from kefu.worker.store import TurnStore
from kefu.worker.turns.handoff import REPLIES as HANDOFF_REPLIES
from kefu.worker.turns.rehearsal import rehearse
from kefu.worker.turns.runner import TurnRunner
from kefu.worker.turns.turn import ACTION_FAILED_REPLY, HOLDING_REPLY

REHEARSED_DEADLINE_S = 10.0  # deadline of a rehearsed turn; the deadline of customers' turns is a setting of the worker

logger = logging.getLogger(__name__)


class ModelUnfit(KefuError):
    """A new model can't be loaded, or lacks a response that the platform needs. The model in use goes on serving."""


class TurnAgent(Agent):
    """The worker's agent for Rasa's HTTP API: reads, parses and predicts, but never changes a conversation."""

    @staticmethod
    def _create_tracker_store(store: Optional[TrackerStore], domain: Domain) -> TrackerStore:
        """Return the store itself: Rasa's FailSafeTrackerStore would answer from memory."""
        if store is None:
            raise UnsafeStart("no tracker store: Rasa would keep conversations in memory")
        return store  # its domain is not set here: the agent is only being checked, and another one may still serve

    @classmethod
    def around(cls, model: LoadedModel, template: Agent, action_endpoint: ActionEndpoint) -> "TurnAgent":
        """Return an agent on `model`, with the stores that Rasa built from endpoints.yml for `template`."""
        domain = model.metadata.domain
        store = getattr(template.tracker_store, "_tracker_store", template.tracker_store)
        agent = cls(domain, None, store, template.lock_store, action_endpoint)
        agent.nlg = QuickResponses(domain.responses)
        agent.processor = TurnProcessor(
            model,
            tracker_store=agent.tracker_store,
            lock_store=agent.lock_store,
            generator=agent.nlg,
            action_endpoint=action_endpoint,
        )
        agent.check()
        return agent

    def check(self) -> None:
        """Check that Rasa has built the classes on which Kefu's promises depend, and that the model has all replies.

        Raises:
            UnsafeStart: a part is not of the type that endpoints.yml must name.
            ModelUnfit: the model lacks a reply that the platform itself gives.
        """
        wanted = (
            ("tracker_store", self.tracker_store, TurnStore),
            ("lock_store", self.lock_store, PartitionLock),
            ("event_broker", self.tracker_store.event_broker, TurnBroker),
            ("action_endpoint", self.action_endpoint, ActionEndpoint),
            ("processor", self.processor, TurnProcessor),
        )
        for name, part, kind in wanted:
            if type(part) is not kind:
                raise UnsafeStart(
                    f"{name} is {type(part).__name__}, not {kind.__name__}: check endpoints.yml for kefu's classes"
                )
        replies: Tuple[str, ...] = (ACTION_FAILED_REPLY, HOLDING_REPLY)
        if HAND_OVER in self.domain.action_names_or_texts:
            replies += HANDOFF_REPLIES
        missing = [name for name in replies if name not in self.domain.responses]
        if missing:
            raise ModelUnfit(f"the domain has no response {', '.join(missing)}")

    def runner(self, deadline_s: float, idle_s: float = 0, handoff_wait_s: float = 600) -> TurnRunner:
        """Return a runner of turns on this agent's model. The times are as KEFU_IDLE_S and KEFU_HANDOFF_WAIT_S."""
        return TurnRunner(self.processor, self.nlg, deadline_s, idle_s, handoff_wait_s)

    async def handle_message(self, message: UserMessage) -> Optional[List[Any]]:
        """Raise UnsafeStart, because in a worker messages come only through the inbox."""
        raise UnsafeStart("a worker takes messages from Kafka only")


async def load_beside(path: str, template: Agent, action_endpoint: ActionEndpoint, rehearsal_s: float) -> TurnAgent:
    """Load a model in a thread, check it, and rehearse it for `rehearsal_s`, while the model in use goes on serving.

    Raises:
        ModelUnfit: the model can't be loaded or can't serve; the error says why.
    """
    loop = asyncio.get_running_loop()
    try:
        model = await loop.run_in_executor(None, LoadedModel.from_path, path)
        agent = TurnAgent.around(model, template, action_endpoint)
        await rehearse(agent.runner(REHEARSED_DEADLINE_S), rehearsal_s)
    except (ModelUnfit, UnsafeStart):
        raise
    except Exception as error:  # a broken archive may raise anything
        raise ModelUnfit(f"the model can't be loaded: {error.__class__.__name__}") from error
    return agent
