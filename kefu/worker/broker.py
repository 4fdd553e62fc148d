"""The event broker named in endpoints.yml.

In the worker, `kefu.worker.inbox.protocol` publishes the tracker events with their turn, before the offset is
committed, so Rasa's own calls of `publish` are dropped. Elsewhere (`rasa shell`, `rasa interactive`) events are not
published, which is logged once.
"""

import logging
from typing import Any, Dict, Optional

from rasa.core.brokers.broker import EventBroker

logger = logging.getLogger(__name__)


class TurnBroker(EventBroker):
    """Drops the events that Rasa publishes, because the worker publishes them itself with each turn."""

    _logged = False

    @classmethod
    async def from_endpoint_config(cls, broker_config: Any, event_loop: Optional[Any] = None) -> "TurnBroker":
        """Return the broker; the endpoint's configuration is not used."""
        return cls()

    def publish(self, event: Dict[str, Any]) -> None:
        """Drop the event. The first time, log that events are not published here."""
        if not self._logged:
            self._logged = True
            logger.info("Tracker events are not streamed: only the worker streams them, with each turn.")
