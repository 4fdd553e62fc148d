"""Checks whether Kafka answers and has the topic `user.query`. Without it the gateway can accept no message."""

import logging
import threading
from typing import Optional

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from kefu.events import USER_QUERY
from kefu.settings import KafkaSettings

logger = logging.getLogger(__name__)

PROBE_EVERY_S = 3.0  # between two checks
PROBE_TIMEOUT_S = 3.0  # longest wait for Kafka's answer; beyond it the topic counts as missing


class KafkaProbe:
    """Asks Kafka for the topic `user.query`, in a thread. `available` says whether the last check found it."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._closing = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self.available = False

    def start(self) -> None:
        """Ask now, then every PROBE_EVERY_S, or three times as often while the topic is missing."""
        self._thread = threading.Thread(target=self._run, name="kafka-probe", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop asking. Does not wait for the thread, which may be waiting for Kafka."""
        self._closing.set()

    def _run(self) -> None:
        # This client must not log: it would write plain text to stderr, and the producer already logs a lost broker.
        quiet = {"log_level": 0, "reconnect.backoff.max.ms": 1000}
        admin = AdminClient({**self._settings.client_config(), **quiet})
        topic = self._settings.topic_prefix + USER_QUERY
        while not self._closing.is_set():
            available = _has_topic(admin, topic)
            if available != self.available:
                logger.info("inbox in kafka", extra={"fields": {"available": available}})
            self.available = available
            self._closing.wait(PROBE_EVERY_S if available else PROBE_EVERY_S / 3)


def _has_topic(admin: AdminClient, topic: str) -> bool:
    try:
        return topic in admin.list_topics(timeout=PROBE_TIMEOUT_S).topics
    except KafkaException:
        return False
