"""The tracker store named in endpoints.yml.

In the worker it only reads from Redis: `kefu.worker.inbox.protocol` writes the turns. Under a designer's command
(`rasa shell`, `rasa interactive`, plain `rasa run`) it saves trackers when Rasa asks for it: in Redis if REDIS_URL is
set, otherwise in this process's memory.
"""

import logging
from typing import Any, Dict, Iterable, List, Optional

from rasa.core.brokers.broker import EventBroker
from rasa.core.tracker_store import TrackerStore
from rasa.shared.core.domain import Domain
from rasa.shared.core.events import ActionExecuted, Event
from rasa.shared.core.trackers import DialogueStateTracker

from kefu.settings import RedisSettings
from kefu.worker.conversation.events import as_stored
from kefu.worker.engine.domain_view import DomainView
from kefu.worker.storage.conversations import Conversations
from kefu.worker.turns.live import LiveConversation, build_tracker

logger = logging.getLogger(__name__)


class TurnStore(TrackerStore):
    """Rasa's access to the conversations: read-only in a worker, with saving in a designer's command."""

    def __init__(
        self, domain: Optional[Domain], event_broker: Optional[EventBroker] = None, host: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(domain, event_broker, **kwargs)
        self._memory: Dict[str, List[Event]] = {}
        self._conversations: Optional[Conversations] = None
        self._read_only = False
        redis = RedisSettings.from_env_if_set()
        if redis:
            self._conversations = Conversations(redis)
        else:
            logger.info("REDIS_URL is not set: conversations are kept in memory and end with this process.")

    def serve_worker(self, conversations: Conversations) -> None:
        """Become the worker's read-only view of `conversations`."""
        self._conversations = conversations
        self._read_only = True

    async def retrieve(self, sender_id: str) -> Optional[DialogueStateTracker]:
        """Return the conversation's tracker, None if there is none. Raises StoreUnavailable."""
        if self._conversations is None:
            events = self._memory.get(sender_id)
            return None if events is None else build_tracker(sender_id, DomainView(self.domain), list(events))
        stored = await self._conversations.load(sender_id)
        if not stored.version:
            return None
        return LiveConversation.restore(sender_id, DomainView(self.domain), stored).tracker

    async def create_tracker(self, sender_id: str, append_action_listen: bool = True) -> DialogueStateTracker:
        """Return a new tracker. It is not saved before its first events."""
        tracker = self.init_tracker(sender_id)
        if append_action_listen:
            tracker.update(ActionExecuted("action_listen"))
        return tracker

    async def save(self, tracker: DialogueStateTracker) -> None:
        """Replace the stored events by the tracker's. In a worker, save nothing."""
        if self._read_only:
            return
        if self._conversations is None:
            self._memory[tracker.sender_id] = list(tracker.events)
        else:
            await self._conversations.replace(tracker.sender_id, as_stored(list(tracker.events)))

    async def keys(self) -> Iterable[str]:
        """Return the names of the conversations in memory; Redis is not scanned."""
        return list(self._memory)
