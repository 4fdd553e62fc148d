"""The shop's HTTP API, for the action server alone: who may ask is checked here, what they get in `orders`."""

import asyncio
import hmac
import logging
import re
import time
from collections.abc import Callable
from typing import Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import SanicException
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from kefu.metrics import HTTP_REQUESTS, HTTP_SECONDS
from kefu.settings import ShopSettings
from ops.local.shop.database import open_engine
from ops.local.shop.orders import OrderBook, TooManyAttempts, shown

MAX_BODY_BYTES = 16 * 1024
STOP_S = 5.0
READY_TIMEOUT_S = 1.0
KEEP_ALIVE_S = 75  # longer than the action server keeps an idle connection, so it never uses a closed one
PROBES = ("/livez", "/readyz", "/metrics")
NUMBER = re.compile(r"[0-9]{8}")
LAST4 = re.compile(r"[0-9]{4}")
ID = re.compile(r"[A-Za-z0-9_.@-]{1,128}")
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
KIND = re.compile("tracking")

logger = logging.getLogger(__name__)
Headers = dict[str, str] | None


class Refused(Exception):
    """Answer with a problem (RFC 9457): nothing of what was asked is repeated in it."""

    def __init__(self, status: int, slug: str, title: str, headers: Headers = None) -> None:
        super().__init__(slug)
        self.status, self.slug, self.title, self.headers = status, slug, title, headers


def not_found() -> Refused:
    """Unknown, somebody else's, wrong digits: one answer, byte for byte."""
    return Refused(404, "order-not-found", "There is no such order for you.")


def create_app(settings: ShopSettings, clock: Callable[[], float] = time.time) -> Sanic:
    """Return the app of a prepared database; it connects at the first request."""
    engine = open_engine(settings.database_url)
    app = Sanic("kefu-shop", configure_logging=False)
    app.config.update(
        REQUEST_MAX_SIZE=MAX_BODY_BYTES, KEEP_ALIVE_TIMEOUT=KEEP_ALIVE_S, GRACEFUL_SHUTDOWN_TIMEOUT=STOP_S,
        ACCESS_LOG=False,
    )  # fmt: skip
    app.ctx.book, app.ctx.clock = OrderBook(engine, clock), clock
    _add_routes(app)
    _add_edges(app, settings.token)

    async def stop(_: Sanic) -> None:
        await engine.dispose()

    app.register_listener(stop, "after_server_stop")
    return app


def _add_routes(app: Sanic) -> None:
    app.add_route(show_order, "/v1/orders/<number>", methods=["GET"])
    app.add_route(list_orders, "/v1/orders", methods=["GET"])
    app.add_route(look_up_as_guest, "/v1/order-lookups", methods=["POST"])
    app.add_route(record_inquiry, "/v1/inquiries", methods=["POST"])
    app.add_route(list_inquiries, "/v1/inquiries", methods=["GET"], name="list_inquiries")
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
            raise Refused(
                401, "not-authorised", "The service token is missing or wrong.", {"WWW-Authenticate": "Bearer"}
            )

    @app.on_response
    async def count(request: Request, response: HTTPResponse) -> None:
        route = request.route.path if request.route else "none"
        HTTP_REQUESTS.labels(route, response.status).inc()
        if hasattr(request.ctx, "started"):
            HTTP_SECONDS.labels(route).observe(time.perf_counter() - request.ctx.started)

    app.error_handler.add(Exception, _on_error)


def _on_error(request: Request, error: Exception) -> HTTPResponse:
    if isinstance(error, Refused):
        return _problem(error)
    if isinstance(error, SanicException) and error.status_code < 500:
        return _problem(Refused(error.status_code, "bad-request", "The request can't be served.", error.headers))
    name = type(error).__name__
    logger.error("request failed", extra={"fields": {"error": name, "method": request.method}})
    if isinstance(error, (DBAPIError, PoolTimeout, OSError)):
        return _problem(Refused(503, "database-away", "Try again later.", {"Retry-After": "1"}))
    return _problem(Refused(500, "fault", "The shop failed."))


def _problem(refused: Refused) -> HTTPResponse:
    body = {"type": f"urn:kefu:shop:{refused.slug}", "title": refused.title, "status": refused.status}
    return _json(body, refused.status, refused.headers, "application/problem+json")


def _json(body: Any, status: int = 200, headers: Headers = None, kind: str = "application/json") -> HTTPResponse:
    return HTTPResponse(orjson.dumps(body), status, headers, kind)


def _header(request: Request, name: str, pattern: "re.Pattern[str]") -> str:
    value = request.headers.get(name, "")
    if not pattern.fullmatch(value):
        raise Refused(400, "bad-header", f"The header {name} is missing or malformed.")
    return value


def _fields(request: Request, **patterns: "re.Pattern[str]") -> list[str]:
    try:
        body = orjson.loads(request.body)
        values = [body[name] for name in patterns]
    except (ValueError, TypeError, KeyError):
        raise Refused(400, "bad-body", f"The body must be a JSON object with {', '.join(patterns)}.") from None
    for value, pattern in zip(values, patterns.values(), strict=True):
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise Refused(400, "bad-body", "A field of the body is malformed.")
    return values


async def show_order(request: Request, number: str) -> HTTPResponse:
    """`GET /v1/orders/{number}`: an order of the customer in `X-Customer`."""
    tenant, customer = _header(request, "X-Tenant", ID), _header(request, "X-Customer", ID)
    row = await request.app.ctx.book.own(tenant, customer, number)
    if row is None:
        raise not_found()
    return _json(shown(row, request.app.ctx.clock()))


async def list_orders(request: Request) -> HTTPResponse:
    """`GET /v1/orders`: the customer's orders, newest first."""
    tenant, customer = _header(request, "X-Tenant", ID), _header(request, "X-Customer", ID)
    rows = await request.app.ctx.book.all_own(tenant, customer)
    return _json({"orders": [shown(row, request.app.ctx.clock()) for row in rows]})


async def look_up_as_guest(request: Request) -> HTTPResponse:
    """`POST /v1/order-lookups`: by number and end of the phone, which a URL would leave in logs."""
    tenant = _header(request, "X-Tenant", ID)
    number, last4 = _fields(request, number=NUMBER, phone_last4=LAST4)
    try:
        row = await request.app.ctx.book.of_guest(tenant, number, last4)
    except TooManyAttempts as error:
        wait = {"Retry-After": str(error.retry_after_s)}
        raise Refused(429, "too-many-attempts", "Too many attempts for this order number.", wait) from None
    if row is None:
        raise not_found()
    return _json(shown(row, request.app.ctx.clock()))


async def record_inquiry(request: Request) -> HTTPResponse:
    """`POST /v1/inquiries`: note once for each `Idempotency-Key` that an order was asked about."""
    tenant, key = _header(request, "X-Tenant", ID), _header(request, "Idempotency-Key", IDEMPOTENCY_KEY)
    number, kind = _fields(request, number=NUMBER, kind=KIND)
    try:
        recorded = await request.app.ctx.book.record_inquiry(tenant, key, number, kind)
    except IntegrityError:
        raise not_found() from None
    if not recorded.same:
        raise Refused(422, "key-reused", "This Idempotency-Key was used with another body.")
    return _json(_inquiry(recorded.row), 201 if recorded.created else 200)


async def list_inquiries(request: Request) -> HTTPResponse:
    """`GET /v1/inquiries?number=`: for the shop's staff, how often an order was asked about."""
    tenant = _header(request, "X-Tenant", ID)
    count, rows = await request.app.ctx.book.inquiries(tenant, request.args.get("number", ""))
    return _json({"count": count, "inquiries": [_inquiry(row) for row in rows]})


def _inquiry(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "number": row["number"], "kind": row["kind"]}


async def livez(_: Request) -> HTTPResponse:
    """Alive as long as the loop answers."""
    return _json({"status": "ok", "missing": []})


async def readyz(request: Request) -> HTTPResponse:
    """Ready when the database answers."""
    try:
        await asyncio.wait_for(request.app.ctx.book.ping(), READY_TIMEOUT_S)
    except Exception:  # noqa: BLE001 - whatever keeps the database away, the answer is the same
        return _json({"status": "unavailable", "missing": ["database"]}, 503)
    return _json({"status": "ok", "missing": []})


async def metrics(_: Request) -> HTTPResponse:
    """Prometheus' text format."""
    return HTTPResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
