"""The routes `/v1/account...`, `/v1/addresses` and `/v1/newsletter` of known customers. `accounts` has the tasks."""

import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from sanic import HTTPResponse, Request, Sanic
from sqlalchemy.ext.asyncio import AsyncConnection

from ops.local.shop import accounts
from ops.local.shop.access import account_of, no_account, once
from ops.local.shop.idempotency import Answer
from ops.local.shop.web import Field, Fields, body_of, json, read, words

# Method, path, task, and fields of the body.
TASKS: tuple[tuple[str, str, accounts.PerformAccount, Fields], ...] = (
    ("POST", "/v1/addresses", accounts.add_address, {"address": words(200), "default": Field(bool, default=False)}),
    ("PATCH", "/v1/account", accounts.rename, {"name": words(100)}),
    ("POST", "/v1/account/password-resets", accounts.reset_password, {}),
    ("POST", "/v1/account/deletion", accounts.delete_account, {}),
    ("DELETE", "/v1/account/deletion", accounts.keep_account, {}),
    ("PUT", "/v1/newsletter", accounts.subscribe, {"subscribed": Field(bool)}),
)


def add_account_routes(app: Sanic) -> None:
    """Add the routes of accounts to the app."""
    app.add_route(show_account, "/v1/account", methods=["GET"])
    app.add_route(list_addresses, "/v1/addresses", methods=["GET"])
    for method, path, perform, fields in TASKS:
        app.add_route(_task(perform, fields), path, methods=[method], name=perform.__name__)


async def show_account(request: Request) -> HTTPResponse:
    """`GET /v1/account`: name, masked phone and e-mail, newsletter, day of deletion."""
    return json(accounts.account_shown(await account_of(request)))


async def list_addresses(request: Request) -> HTTPResponse:
    """`GET /v1/addresses`: the address book, the default first."""
    account = await account_of(request)
    async with request.app.ctx.store.reading() as connection:
        return json({"addresses": await accounts.addresses(connection, account)})


def _task(perform: accounts.PerformAccount, fields: Fields) -> Callable[[Request], Coroutine[Any, Any, HTTPResponse]]:
    async def handle(request: Request) -> HTTPResponse:
        body = body_of(request)
        asked = read(body, fields)
        keyless = request.method == "DELETE" and "Idempotency-Key" not in request.headers
        key = uuid.uuid4().hex if keyless else None
        return await once(request, body, lambda: account_of(request), _effect(request, asked, perform), key)

    handle.__doc__ = perform.__doc__
    return handle


def _effect(
    request: Request, asked: dict[str, Any], perform: accounts.PerformAccount
) -> Callable[[AsyncConnection], Awaitable[Answer]]:
    tenant, customer = request.headers.get("X-Tenant", ""), request.headers.get("X-Customer", "")
    now = request.app.ctx.store.clock()

    async def effect(connection: AsyncConnection) -> Answer:
        account = await accounts.find_account(connection, tenant, customer, now, lock=True)
        if account is None:
            raise no_account()
        return await perform(accounts.AccountTask(connection, account, asked, now))

    return effect
