"""The routes `/v1/products`, `/v1/policies` and `/v1/tickets`, which guests may use, too."""

from sanic import HTTPResponse, Request, Sanic
from sqlalchemy.ext.asyncio import AsyncConnection

from ops.local.shop import goods
from ops.local.shop.access import caller_of, once
from ops.local.shop.idempotency import Answer
from ops.local.shop.tickets import KINDS, open_ticket
from ops.local.shop.web import ID, NUMBER, Field, Fields, Problem, body_of, code, header, json, moment, read, words

TICKET: Fields = {
    "kind": code(KINDS),
    "text": words(2000),
    "order": Field(str, lambda value: value if NUMBER.fullmatch(value) else None, None),
    "call_at": moment(),
    "rating": Field(int, lambda value: value if 1 <= value <= 5 else None, None),
}
MAX_QUERY_CHARS = 200


def add_shop_routes(app: Sanic) -> None:
    """Add the routes to the app."""
    app.add_route(list_products, "/v1/products", methods=["GET"])
    app.add_route(show_policies, "/v1/policies", methods=["GET"])
    app.add_route(add_ticket, "/v1/tickets", methods=["POST"])


async def list_products(request: Request) -> HTTPResponse:
    """`GET /v1/products?q=`: the products whose names or synonyms fit best; all products for an empty query."""
    tenant, query = header(request, "X-Tenant", ID), request.args.get("q", "")[:MAX_QUERY_CHARS]
    async with request.app.ctx.store.reading() as connection:
        return json({"products": await goods.products(connection, tenant, query)})


async def show_policies(request: Request) -> HTTPResponse:
    """`GET /v1/policies`: the shop's rules as data."""
    tenant = header(request, "X-Tenant", ID)
    async with request.app.ctx.store.reading() as connection:
        rules = await goods.policies(connection, tenant)
    if rules is None:
        raise Problem(404, "policies-not-found", "This shop has no rules.")
    return json(rules)


async def add_ticket(request: Request) -> HTTPResponse:
    """`POST /v1/tickets`: open a ticket for the shop's staff; for customers and for guests with an id."""
    tenant, caller, body = header(request, "X-Tenant", ID), caller_of(request), body_of(request)
    if "X-Customer" not in request.headers:
        header(request, "X-Guest", ID)
    asked, now = read(body, TICKET), request.app.ctx.store.clock()

    async def everybody() -> None:
        """Admit every caller."""

    async def effect(connection: AsyncConnection) -> Answer:
        return await open_ticket(connection, tenant, caller, asked, now)

    return await once(request, body, everybody, effect)
