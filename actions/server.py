"""The action server: `python -m kefu actions`. In: calls of Rasa's RemoteAction. Out: events and responses.

rasa-sdk's executor runs the actions. Its web app is not used, because its error handler sends the request's body back,
customer's words included. Here an error answer and a log line name the action and the class of the error.
"""

import logging
import time
import traceback
import zlib
from functools import partial
from typing import Any

import orjson
from rasa_sdk import Action
from rasa_sdk.executor import ActionExecutor
from rasa_sdk.interfaces import ActionExecutionRejection, ActionMissingDomainException, ActionNotFoundException
from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import SanicException

from actions.accounts import account_tasks
from actions.callbacks import RequestCallback
from actions.forms import task_forms
from actions.idempotency import Answers, current_key, scoped, with_input
from actions.orders import order_tasks
from actions.questions import AnswerQuestion, AskProduct, CancellationFee
from actions.shop import Shop
from actions.talk import talk
from kefu.health import HealthServer
from kefu.logs import configure
from kefu.metrics import HTTP_REQUESTS, HTTP_SECONDS
from kefu.settings import ActionSettings
from kefu.tls import server_context

# Limits the body of a call, which holds a tracker of up to 100 turns with its NLU results, and the domain. Sanic
# refuses a larger body.
MAX_BODY_BYTES = 8 * 1024 * 1024
KEEP_ALIVE_S = 75  # an idle connection of a worker is closed after this time
STOP_S = 10.0  # how long running calls may take after SIGTERM
KEY_HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 512  # limits the key of a call; the rest of a longer one is cut off

logger = logging.getLogger(__name__)


def actions(shop: Shop) -> list[Action]:
    """Return every action that this server runs. Add a new action here."""
    questions = [AnswerQuestion(shop), CancellationFee(shop), AskProduct(shop)]
    return [*task_forms(shop), *order_tasks(shop), *account_tasks(shop), RequestCallback(shop), *questions, *talk()]


class Webhook:
    """Answers the workers' calls of actions. For each idempotency key it runs the action once."""

    def __init__(self, registered: list[Action], answers: Answers) -> None:
        self._executor = ActionExecutor()
        self._answers = answers
        for action in registered:
            self._executor.register_action(action)

    @property
    def names(self) -> list[str]:
        """The names of the actions that this server runs."""
        return list(self._executor.actions)

    async def answer(self, request: Request) -> HTTPResponse:
        """`POST /webhook`: 200 with events and responses, 400 rejected, 404 no such action, 500 failed."""
        started = time.perf_counter()
        call = _decoded(request)
        if call is None:
            return _json(400, {"error": "InvalidCall", "action_name": ""})
        name = call["next_action"]
        response = await self._outcome(name, call, request.headers.get(KEY_HEADER, "")[:MAX_KEY_CHARS])
        # Unknown names share one label, otherwise a caller could create any number of labels.
        route = name if response.status != 404 else "unknown"
        HTTP_REQUESTS.labels(route, response.status).inc()
        HTTP_SECONDS.labels(route).observe(time.perf_counter() - started)
        return response

    async def _outcome(self, name: str, call: dict[str, Any], key: str) -> HTTPResponse:
        try:
            return HTTPResponse(await self._once(call, key), content_type="application/json")
        except ActionExecutionRejection as error:
            return _json(400, {"error": error.message, "action_name": name})
        except ActionMissingDomainException as error:
            return _json(449, {"error": error.message, "action_name": name})
        except ActionNotFoundException:
            return _json(404, {"error": "ActionNotFound", "action_name": name})
        except Exception as error:  # noqa: BLE001 - any error of an action becomes a 500 that names its class
            failure = {"action": name, "error": type(error).__name__, "at": _place(error)}
            logger.error("action failed", extra={"fields": failure})
            return _json(500, {"error": type(error).__name__, "action_name": name})

    async def _once(self, call: dict[str, Any], key: str) -> bytes:
        if not key:
            current_key.set(None)  # the connection's task may still hold the key of an earlier request
            return await self._run(call)
        key = scoped(key, str(call["tracker"].get("sender_id")))
        current_key.set(key)
        return await self._answers.once(with_input(key, call["tracker"]), partial(self._run, call))

    async def _run(self, call: dict[str, Any]) -> bytes:
        result = await self._executor.run(call)
        return orjson.dumps(result.model_dump() if result else None)


def create_app(webhook: Webhook, shop: Shop, health: HealthServer, ready: list[str]) -> Sanic[Any, Any]:
    """Return the app. `ready` lists the reasons for not being ready; it is emptied once the server listens."""
    app = Sanic("kefu-actions", configure_logging=False)
    app.config.update(
        REQUEST_MAX_SIZE=MAX_BODY_BYTES, KEEP_ALIVE_TIMEOUT=KEEP_ALIVE_S, GRACEFUL_SHUTDOWN_TIMEOUT=STOP_S,
        ACCESS_LOG=False,
    )  # fmt: skip
    app.add_route(webhook.answer, "/webhook", methods=["POST"], name="webhook")

    @app.get("/health")
    async def live(_: Request) -> HTTPResponse:
        return _json(200, {"status": "ok"})

    @app.get("/actions")
    async def listed(_: Request) -> HTTPResponse:
        return _json(200, [{"name": name} for name in webhook.names])

    @app.after_server_start
    async def start(_: Sanic[Any, Any]) -> None:
        health.start()
        ready.clear()
        logger.info("action server ready", extra={"fields": {"actions": webhook.names}})

    @app.before_server_stop
    async def drain(_: Sanic[Any, Any]) -> None:
        ready.append("stopping")

    @app.after_server_stop
    async def stop(_: Sanic[Any, Any]) -> None:
        await shop.close()
        health.stop()

    app.error_handler.add(Exception, _on_error)
    return app


def _on_error(_: Request, error: Exception) -> HTTPResponse:
    status = error.status_code if isinstance(error, SanicException) else 500
    if status >= 500:
        logger.error("request failed", extra={"fields": {"error": type(error).__name__, "at": _place(error)}})
    return _json(status, {"error": type(error).__name__, "action_name": ""})


def _decoded(request: Request) -> dict[str, Any] | None:
    """Return the call in a request's body, which may be deflated; None if it is not a valid call."""
    try:
        deflated = request.headers.get("Content-Encoding") == "deflate"
        call = orjson.loads(_inflated(request.body) if deflated else request.body)
        valid = isinstance(call["next_action"], str) and isinstance(call["tracker"], dict)
    except (ValueError, TypeError, KeyError, zlib.error):
        return None
    if not call.get("domain") and not call.get("domain_digest"):
        call["domain"] = {}  # without a domain or its digest the executor would answer 449
    return call if valid else None


def _inflated(body: bytes) -> bytes:
    """Return a deflated body unpacked. Raises ValueError above MAX_BODY_BYTES."""
    inflater = zlib.decompressobj()
    plain = inflater.decompress(body, MAX_BODY_BYTES)
    if inflater.unconsumed_tail:
        raise ValueError("too large when unpacked")
    return plain


def _place(error: BaseException) -> str:
    """Return file and line where an error was raised, for the log."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "unknown"


def _json(status: int, body: Any) -> HTTPResponse:
    return HTTPResponse(orjson.dumps(body), status, content_type="application/json")


def main() -> None:
    """Serve until SIGINT or SIGTERM. Raises SettingsError, which names the setting at fault."""
    configure("actions")
    settings = ActionSettings.from_env()
    shop = Shop(settings.shop_url, settings.shop_token, settings.shop_timeout_s)
    tls = server_context(settings.tls_directory) if settings.tls_directory else None
    # Only the server's own state: if the shop is down, its actions fail, but the replicas stay ready.
    missing = ["server"]
    health = HealthServer(settings.host, settings.health_port, lambda: list(missing))
    app = create_app(Webhook(actions(shop), Answers()), shop, health, missing)
    app.run(settings.host, settings.port, ssl=tls, single_process=True, motd=False, access_log=False)
