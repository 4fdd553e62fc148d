"""`/livez`, `/readyz` and `/metrics`. A gateway is ready if it can accept messages, which needs Kafka only."""

from sanic import Blueprint, HTTPResponse, Request

from kefu import health
from kefu.gateway.responses import Answer, json_answer

probes = Blueprint("probes")


@probes.get("/livez")
async def livez(request: Request) -> HTTPResponse:
    """200 while the event loop answers and the producer has no fatal error, after which only a restart helps."""
    return _answer("/livez", stuck=lambda: _stuck(request))


@probes.get("/metrics")
async def show_metrics(_: Request) -> HTTPResponse:
    """Return the gateway's metrics in Prometheus' text format."""
    return _answer("/metrics")


@probes.get("/readyz")
async def readyz(request: Request) -> HTTPResponse:
    """200 when messages can be accepted; `degraded` names servers that are unavailable but not needed for that."""
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
