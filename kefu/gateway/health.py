"""`/livez`, `/readyz`, `/metrics`. Ready means able to accept, which needs Kafka only."""

import logging
import threading
from typing import Optional

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from sanic import Blueprint, HTTPResponse, Request

from kefu import health
from kefu.events import USER_QUERY
from kefu.gateway.answer import Answer, json_answer
from kefu.settings import KafkaSettings

logger = logging.getLogger(__name__)

PROBE_EVERY_S = 3.0
PROBE_TIMEOUT_S = 3.0

probes = Blueprint("probes")


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


@probes.get("/livez")
async def livez(request: Request) -> HTTPResponse:
    """200 while the event loop answers and nothing is broken that only a restart can mend."""
    return _answer("/livez", stuck=lambda: _stuck(request))


@probes.get("/metrics")
async def show_metrics(_: Request) -> HTTPResponse:
    """Prometheus' text."""
    return _answer("/metrics")


@probes.get("/readyz")
async def readyz(request: Request) -> HTTPResponse:
    """200 when messages can be accepted; `degraded` names what is away all the same."""
    gateway = request.app.ctx.gateway
    missing = _stuck(request) + ([] if gateway.kafka.available else ["kafka"])
    if gateway.draining:
        missing.append("stopping")
    body = {
        "status": "unavailable" if missing else "ok",
        "missing": missing,
        "degraded": [] if gateway.hub.connected else ["redis"],
    }
    return json_answer(body, 503 if missing else 200)


def _stuck(request: Request) -> list[str]:
    failure = request.app.ctx.gateway.producer.failure
    return [f"producer: {failure}"] if failure else []


def _answer(path: str, stuck: health.Missing = list) -> HTTPResponse:
    status, kind, body = health.answer(path, list, stuck)
    return Answer(body, status, None, kind)
