"""The Kafka input channel named in credentials.yml, which turns a Rasa server into a worker.

In: Rasa's server with its model loaded. Out: a running `Worker`. From then on only the inbox changes conversations;
calls of Rasa's HTTP API that would change one are answered by 409.
"""

import hmac
import logging
from typing import Any, Awaitable, Callable, Dict, Optional

from rasa.core.channels.channel import InputChannel
from sanic import Blueprint, Sanic
from sanic.request import Request
from sanic.response import HTTPResponse, json

from kefu.errors import UnsafeStart
from kefu.settings import KafkaSettings, RedisSettings, WorkerSettings
from kefu.worker.agent import ModelUnfit
from kefu.worker.worker import Worker

logger = logging.getLogger(__name__)
READS = ("GET", "HEAD", "OPTIONS")  # HTTP methods that change nothing, so that Rasa may handle them


class KafkaInput(InputChannel):
    """Takes messages from Kafka instead of HTTP."""

    def __init__(self, worker: Worker, api_token: str = "") -> None:
        self._worker = worker
        self._api_token = api_token

    @classmethod
    def name(cls) -> str:
        """Return the channel's name in URLs and logs."""
        return "kafka"

    @classmethod
    def from_credentials(cls, credentials: Optional[Dict[str, Any]]) -> "KafkaInput":
        """Return the channel, with settings from the environment. Raises SettingsError."""
        settings = WorkerSettings.from_env()
        return cls(Worker(KafkaSettings.from_env(), RedisSettings.from_env(), settings), settings.api_token)

    def blueprint(self, on_new_message: Callable[..., Awaitable[Any]]) -> Blueprint:
        """Return the channel's server hooks; the channel has no routes."""
        blueprint = Blueprint("kefu_kafka")

        @blueprint.listener("after_server_start")  # type: ignore[untyped-decorator]  # this Sanic returns an untyped one
        async def take_over(app: Sanic, _: Any) -> None:
            # Rasa has an agent only from here on. An exception here ends the process with exit code 1.
            if getattr(app.ctx, "agent", None) is None or app.ctx.agent.processor is None:
                raise UnsafeStart("no model was loaded: run `make train`")
            app.ctx.agent = await self._worker.start(app.ctx.agent)
            app.register_middleware(self._guard, "request")

        @blueprint.listener("before_server_stop")  # type: ignore[untyped-decorator]  # this Sanic returns an untyped one
        async def drain(_: Sanic, __: Any) -> None:
            await self._worker.stop()

        return blueprint

    async def _guard(self, request: Request) -> Optional[HTTPResponse]:
        """Answer the calls that Rasa would handle unsafely; return None to let Rasa answer."""
        if request.method in READS:
            return None
        if request.path.startswith(("/conversations/", "/webhooks/")):
            return _problem(409, "conversation-read-only", "Send messages to the gateway: POST /v1/messages.")
        if request.path != "/model":
            return None
        if self._api_token and not hmac.compare_digest(self._api_token, request.args.get("token", "")):
            return _problem(401, "unauthorized", "The query parameter `token` is missing or wrong.")
        if request.method == "DELETE":
            return _problem(409, "model-in-use", "A worker can't serve without a model: PUT another one.")
        return await self._swap(request)

    async def _swap(self, request: Request) -> HTTPResponse:
        body = request.json
        path = body.get("model_file") if isinstance(body, dict) else None
        if not isinstance(path, str) or not path:
            return _problem(400, "malformed", 'The body must be {"model_file": "path of the model"}.')
        try:
            agent = await self._worker.swap(path)
        except (ModelUnfit, UnsafeStart) as error:
            logger.error("model refused", extra={"fields": {"error": str(error)}})
            return _problem(400, "model-unfit", f"{error}. The model in use stays.")
        request.app.ctx.agent = agent
        return json({"model_id": agent.model_id}, 200)


def _problem(status: int, kind: str, detail: str) -> HTTPResponse:
    body = {"type": f"urn:kefu:problem:{kind}", "title": kind.replace("-", " "), "status": status, "detail": detail}
    return json(body, status, content_type="application/problem+json")
