"""Access checks of a request: its caller, the caller's order or account, and the answer stored under its key."""

from collections.abc import Awaitable, Callable
from typing import Any

from sanic import HTTPResponse, Request

from ops.local.shop.accounts import find_account
from ops.local.shop.idempotency import Asked, Effect, KeyReused, fingerprint
from ops.local.shop.orders import Row, TooManyAttempts
from ops.local.shop.web import (
    ID,
    IDEMPOTENCY_KEY,
    LAST4,
    NUMBER,
    Problem,
    code,
    header,
    not_found,
    optional_header,
    sent,
)

PHONE_LAST4 = code(LAST4)


def caller_of(request: Request) -> str:
    """Return the caller: a customer or a guest. Idempotency keys are unique for each caller."""
    customer, guest = optional_header(request, "X-Customer", ID), optional_header(request, "X-Guest", ID)
    return f"customer:{customer}" if customer is not None else f"guest:{guest or ''}"


async def order_of(request: Request, number: str, body: dict[str, Any]) -> Row:
    """Return the order if the caller may see it: its owner, or a guest who knows the last digits of its phone.

    Raises:
        Problem: 404, the same for every reason; 429 after too many attempts; 400 without customer and digits.
    """
    tenant, customer = header(request, "X-Tenant", ID), optional_header(request, "X-Customer", ID)
    book = request.app.ctx.book
    last4 = PHONE_LAST4.read("phone_last4", body) if customer is None else ""
    if not NUMBER.fullmatch(number):
        raise not_found()
    try:
        row = await (book.of_guest(tenant, number, last4) if customer is None else book.own(tenant, customer, number))
    except TooManyAttempts as error:
        wait = {"Retry-After": str(error.retry_after_s)}
        raise Problem(429, "too-many-attempts", "Too many attempts for this order number.", wait) from None
    if row is None:
        raise not_found()
    return row


async def account_of(request: Request) -> Row:
    """Return the customer's account. Raises Problem: 403 for guests, 404 without an account."""
    tenant, customer = header(request, "X-Tenant", ID), optional_header(request, "X-Customer", ID)
    if customer is None:
        reason = "known_customers_only"
        raise Problem(403, "known-customers-only", "Only a known customer has an account.", reason=reason)
    store = request.app.ctx.store
    async with store.reading() as connection:
        account = await find_account(connection, tenant, customer, store.clock())
    if account is None:
        raise no_account()
    return account


def no_account() -> Problem:
    """Return a 404: the shop has no account of this customer, or has it no longer."""
    return Problem(404, "account-not-found", "There is no such account.")


async def once(
    request: Request, body: dict[str, Any], admit: Callable[[], Awaitable[Any]], effect: Effect, key: str | None = None
) -> HTTPResponse:
    """Run the effect and return its answer, or return the answer stored under the same key.

    Args:
        request: its headers give tenant, caller and key.
        body: the request's body as received.
        admit: raises Problem for a caller without access; not called for a stored answer.
        effect: changes the database in its transaction.
        key: used in place of the request's own key.
    """
    key = key or header(request, "Idempotency-Key", IDEMPOTENCY_KEY)
    tenant, digest = header(request, "X-Tenant", ID), fingerprint(request.method, request.path, body)
    asked, answers = Asked(tenant, caller_of(request), key, digest), request.app.ctx.answers
    try:
        answer = await answers.stored(asked)
        if answer is None:
            await admit()
            answer = await answers.once(asked, effect)
    except KeyReused:
        raise key_reused() from None
    return sent(answer)


def key_reused() -> Problem:
    """Return a 422: this caller used the key for another request."""
    return Problem(422, "key-reused", "This Idempotency-Key was used with another body.")
