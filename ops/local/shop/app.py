"""The shop's HTTP API, which only the action server uses: routes, the service token, errors, probes."""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import SanicException
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from kefu.metrics import HTTP_REQUESTS, HTTP_SECONDS
from kefu.settings import ShopSettings
from ops.local.shop.account_routes import add_account_routes
from ops.local.shop.database import open_engine
from ops.local.shop.idempotency import Answers
from ops.local.shop.order_routes import add_order_routes
from ops.local.shop.orders import OrderBook
from ops.local.shop.shop_routes import add_shop_routes
from ops.local.shop.store import Store
from ops.local.shop.web import Problem, json

MAX_BODY_BYTES = 32 * 1024  # fits a text of 4,000 emoji, which is then refused as too long with a reason
STOP_S = 5.0
READY_TIMEOUT_S = 1.0
KEEP_ALIVE_S = 75  # longer than the action server keeps an idle connection, so it never uses a closed one
PROBES = ("/livez", "/readyz", "/metrics")

logger = logging.getLogger(__name__)


def create_app(settings: ShopSettings, clock: Callable[[], float] = time.time) -> Sanic:
    """Return the app of a prepared database; it connects at the first request."""
    engine = open_engine(settings.database_url)
    app = Sanic("kefu-shop", configure_logging=False)
    app.config.update(
        REQUEST_MAX_SIZE=MAX_BODY_BYTES, KEEP_ALIVE_TIMEOUT=KEEP_ALIVE_S, GRACEFUL_SHUTDOWN_TIMEOUT=STOP_S,
        ACCESS_LOG=False,
    )  # fmt: skip
    app.ctx.store = Store(engine, clock)
    app.ctx.book, app.ctx.answers = OrderBook(app.ctx.store), Answers(app.ctx.store)
    _add_routes(app)
    _add_edges(app, settings.token)

    async def stop(_: Sanic) -> None:
        await engine.dispose()

    app.register_listener(stop, "after_server_stop")
    return app


def _add_routes(app: Sanic) -> None:
    add_order_routes(app)
    add_account_routes(app)
    add_shop_routes(app)
    app.add_route(livez, "/livez", methods=["GET"])
    app.add_route(readyz, "/readyz", methods=["GET"])
    app.add_route(metrics, "/metrics", methods=["GET"])


def _add_edges(app: Sanic, token: str) -> None:
    expected = f"Bearer {token}".encode()

    @app.on_request
    async def admit(request: Request) -> None:
        request.ctx.started = time.perf_counter()
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        if request.path not in PROBES and not hmac.compare_digest(given, expected):
            challenge = {"WWW-Authenticate": "Bearer"}
            raise Problem(401, "not-authorised", "The service token is missing or wrong.", challenge)

    @app.on_response
    async def count(request: Request, response: HTTPResponse) -> None:
        route = request.route.path if request.route else "none"
        HTTP_REQUESTS.labels(route, response.status).inc()
        if hasattr(request.ctx, "started"):
            HTTP_SECONDS.labels(route).observe(time.perf_counter() - request.ctx.started)

    app.error_handler.add(Exception, _on_error)


def _on_error(request: Request, error: Exception) -> HTTPResponse:
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, SanicException) and error.status_code < 500:
        return Problem(error.status_code, "bad-request", "The request can't be served.", error.headers).response()
    name = type(error).__name__
    logger.error("request failed", extra={"fields": {"error": name, "method": request.method}})
    if isinstance(error, (DBAPIError, PoolTimeout, OSError)):
        return Problem(503, "database-away", "Try again later.", {"Retry-After": "1"}).response()
    return Problem(500, "fault", "The shop failed.").response()


async def livez(_: Request) -> HTTPResponse:
    """`GET /livez`: 200 as long as the event loop runs."""
    return json({"status": "ok", "missing": []})


async def readyz(request: Request) -> HTTPResponse:
    """`GET /readyz`: 200 while the database answers, else 503."""
    try:
        await asyncio.wait_for(request.app.ctx.store.ping(), READY_TIMEOUT_S)
    except Exception:  # noqa: BLE001 - the answer is the same for every error of the database
        return json({"status": "unavailable", "missing": ["database"]}, 503)
    return json({"status": "ok", "missing": []})


async def metrics(_: Request) -> HTTPResponse:
    """`GET /metrics`: the metrics in Prometheus' text format."""
    return HTTPResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
