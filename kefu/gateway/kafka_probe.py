"""Whether Kafka has the inbox: without it the gateway can accept nothing."""

import logging
import threading
from typing import Optional

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from kefu.events import USER_QUERY
from kefu.settings import KafkaSettings

logger = logging.getLogger(__name__)

PROBE_EVERY_S = 3.0
PROBE_TIMEOUT_S = 3.0


class KafkaProbe:
    """Asks for the inbox's metadata from a thread of its own; `available` is the last answer."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._closing = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self.available = False

    def start(self) -> None:
        """Ask now, and again every PROBE_EVERY_S."""
        self._thread = threading.Thread(target=self._run, name="kafka-probe", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more. Does not wait for the thread: it may sit in a time-out."""
        self._closing.set()

    def _run(self) -> None:
        # The producer's client already tells of a lost broker, as JSON; this one would do so on bare stderr.
        quiet = {"log_level": 0, "reconnect.backoff.max.ms": 1000}
        admin = AdminClient({**self._settings.client_config(), **quiet})
        topic = self._settings.topic_prefix + USER_QUERY
        while not self._closing.is_set():
            found = _has_topic(admin, topic)
            if found != self.available:
                logger.info("inbox in kafka", extra={"fields": {"available": found}})
            self.available = found
            self._closing.wait(PROBE_EVERY_S if found else PROBE_EVERY_S / 3)


def _has_topic(admin: AdminClient, topic: str) -> bool:
    try:
        return topic in admin.list_topics(timeout=PROBE_TIMEOUT_S).topics
    except KafkaException:
        return False
