"""The routes `/v1/orders...` and `/v1/inquiries`, with the check of access. `orders` reads, `tasks` changes orders."""

import re
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from ops.local.shop import tasks
from ops.local.shop.access import key_reused, once, order_of
from ops.local.shop.idempotency import Answer
from ops.local.shop.orders import find, shown
from ops.local.shop.web import (
    ID,
    IDEMPOTENCY_KEY,
    NUMBER,
    Field,
    Fields,
    body_of,
    code,
    header,
    json,
    not_found,
    read,
    words,
)

Handler = Callable[[Request, str], Coroutine[Any, Any, HTTPResponse]]

# Path after the order's number, task, and fields of the body.
TASKS: tuple[tuple[str, tasks.Perform, Fields], ...] = (
    ("cancellation", tasks.cancel, {"reason": words(500, None), "fee": words(20, None)}),
    ("items", tasks.change_item, {"item": Field(int), "quantity": Field(int)}),
    ("address", tasks.change_address, {"address": words(200)}),
    ("refunds", tasks.request_refund, {"reason": words(500)}),
    ("invoice", tasks.request_invoice, {"title": words(100)}),
)
SHIPMENT: Fields = {"carrier_zh": words(50), "carrier_en": words(50), "tracking_number": words(40)}
LOOKUP: Fields = {"number": code(NUMBER)}
INQUIRY: Fields = {"number": code(NUMBER), "kind": code(re.compile("tracking"))}


def add_order_routes(app: Sanic) -> None:
    """Add the routes of orders to the app."""
    app.add_route(show_order, "/v1/orders/<number>", methods=["GET"])
    app.add_route(list_orders, "/v1/orders", methods=["GET"])
    app.add_route(look_up_as_guest, "/v1/order-lookups", methods=["POST"])
    app.add_route(look_up_refunds, "/v1/orders/<number>/refund-lookups", methods=["POST"])
    app.add_route(ship, "/v1/orders/<number>/shipment", methods=["POST"])
    app.add_route(record_inquiry, "/v1/inquiries", methods=["POST"])
    app.add_route(list_inquiries, "/v1/inquiries", methods=["GET"], name="list_inquiries")
    for name, perform, fields in TASKS:
        app.add_route(_task(perform, fields), f"/v1/orders/<number>/{name}", methods=["POST"], name=name)


async def show_order(request: Request, number: str) -> HTTPResponse:
    """`GET /v1/orders/{number}`: an order of the customer in `X-Customer`."""
    header(request, "X-Customer", ID)
    return json(shown(await order_of(request, number, {}), request.app.ctx.store.clock()))


async def list_orders(request: Request) -> HTTPResponse:
    """`GET /v1/orders`: the customer's orders, newest first."""
    tenant, customer = header(request, "X-Tenant", ID), header(request, "X-Customer", ID)
    rows = await request.app.ctx.book.all_own(tenant, customer)
    return json({"orders": [shown(row, request.app.ctx.store.clock()) for row in rows]})


async def look_up_as_guest(request: Request) -> HTTPResponse:
    """`POST /v1/order-lookups`: an order by its number and the phone's last digits. A URL would leave these in logs."""
    body = body_of(request)
    row = await order_of(request, read(body, LOOKUP)["number"], body)
    return json(shown(row, request.app.ctx.store.clock()))


async def look_up_refunds(request: Request, number: str) -> HTTPResponse:
    """`POST /v1/orders/{number}/refund-lookups`: the refunds of an order. A POST, because of a guest's digits."""
    row = await order_of(request, number, body_of(request))
    refunds = await request.app.ctx.book.refunds(row["tenant"], row["number"])
    return json({"refunds": [tasks.refund_shown(refund, row["currency"]) for refund in refunds]})


def _task(perform: tasks.Perform, fields: Fields) -> Handler:
    async def handle(request: Request, number: str) -> HTTPResponse:
        body = body_of(request)
        effect = _effect(request, number, read(body, fields), perform)
        return await once(request, body, lambda: order_of(request, number, body), effect)

    handle.__doc__ = perform.__doc__
    return handle


def _effect(
    request: Request, number: str, asked: dict[str, Any], perform: tasks.Perform
) -> Callable[[AsyncConnection], Awaitable[Answer]]:
    tenant, now = header(request, "X-Tenant", ID), request.app.ctx.store.clock()
    return lambda connection: tasks.performed(connection, tenant, number, asked, now, perform)


async def ship(request: Request, number: str) -> HTTPResponse:
    """`POST /v1/orders/{number}/shipment`: the shop's staff hand an order to a carrier."""
    body, tenant = body_of(request), header(request, "X-Tenant", ID)

    async def known() -> None:
        async with request.app.ctx.store.reading() as connection:
            if await find(connection, tenant, number) is None:
                raise not_found()

    return await once(request, body, known, _effect(request, number, read(body, SHIPMENT), tasks.ship))


async def record_inquiry(request: Request) -> HTTPResponse:
    """`POST /v1/inquiries`: store an inquiry about an order, once for each `Idempotency-Key`."""
    tenant, key = header(request, "X-Tenant", ID), header(request, "Idempotency-Key", IDEMPOTENCY_KEY)
    asked = read(body_of(request), INQUIRY)
    try:
        recorded = await request.app.ctx.book.record_inquiry(tenant, key, **asked)
    except IntegrityError:
        raise not_found() from None
    if not recorded.same:
        raise key_reused()
    return json(_inquiry(recorded.row), 201)


async def list_inquiries(request: Request) -> HTTPResponse:
    """`GET /v1/inquiries?number=`: the number of inquiries about an order, for the shop's staff."""
    tenant = header(request, "X-Tenant", ID)
    count, rows = await request.app.ctx.book.inquiries(tenant, request.args.get("number", ""))
    return json({"count": count, "inquiries": [_inquiry(row) for row in rows]})


def _inquiry(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "number": row["number"], "kind": row["kind"]}
