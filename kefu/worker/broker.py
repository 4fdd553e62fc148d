"""The event broker named in endpoints.yml.

In the worker, tracker events leave with the turn that made them (`kefu.worker.inbox.protocol`), delivered
before the offset is committed; Rasa's own calls of `publish` have nothing to add. Elsewhere
(`rasa shell`, `rasa interactive`) events go nowhere, which is said once.
"""

import logging
from typing import Any, Dict, Optional

from rasa.core.brokers.broker import EventBroker

logger = logging.getLogger(__name__)


class TurnBroker(EventBroker):
    """Takes Rasa's events and lets them go; see the module."""

    _said = False

    @classmethod
    async def from_endpoint_config(cls, broker_config: Any, event_loop: Optional[Any] = None) -> "TurnBroker":
        """Return the broker; nothing in the endpoint's configuration is used."""
        return cls()

    def publish(self, event: Dict[str, Any]) -> None:
        """Drop the event, saying so the first time."""
        if not self._said:
            self._said = True
            logger.info("Tracker events are not streamed: only the worker streams them, with each turn.")
