"""Tickets for the shop's staff: complaints, call backs, failed payments and registrations, reviews."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ops.local.shop.idempotency import Answer
from ops.local.shop.models import Order, Policies, Ticket
from ops.local.shop.rules import aware, due, is_open
from ops.local.shop.web import done, refused

KINDS = re.compile("complaint|callback|payment|registration|review")
FIRST_TICKET = 80_000_000  # added to the id, so that all numbers have eight digits


async def open_ticket(
    connection: AsyncConnection, tenant: str, caller: str, asked: dict[str, Any], now: float
) -> Answer:
    """Store a ticket. The rules for its kind, or the customer's wish, give the time by which it is answered.

    Calls are made within the service hours. An order has one waiting payment ticket of a caller: a second request
    returns the first ticket, with 200.

    Args:
        connection: a connection in a transaction.
        tenant: the tenant.
        caller: the caller, as in `idempotency.Asked`.
        asked: the fields kind, text, order, call_at and rating.
        now: seconds since the epoch.
    """
    since, call_at = datetime.fromtimestamp(now, UTC), asked["call_at"]
    rules = await connection.scalar(select(Policies.rules).where(Policies.tenant == tenant))
    if rules is None:
        return refused("unknown_shop")
    if call_at and (call_at < since or not is_open(call_at, rules["service"])):
        return refused("bad_call_at")
    if asked["kind"] == "payment" and asked["order"]:
        known = await _open_ticket_of(connection, tenant, caller, asked["order"], since)
        if known:
            return done(200, known)
    hours = rules["answer_within_hours"][asked["kind"]]
    by = due(since, hours, rules["service"]) if asked["kind"] == "callback" else since + timedelta(hours=hours)
    answer_by = call_at or by
    row = {
        "tenant": tenant, "caller": caller, "kind": asked["kind"], "text": asked["text"], "number": asked["order"],
        "call_at": call_at, "rating": asked["rating"], "created_at": since, "answer_by": answer_by,
    }  # fmt: skip
    id_ = await connection.scalar(insert(Ticket).values(row).returning(Ticket.id))
    assert id_ is not None
    return done(201, _shown(id_, answer_by))


def _shown(id_: int, answer_by: datetime) -> dict[str, str]:
    return {"number": f"T{FIRST_TICKET + id_}", "answer_by": aware(answer_by).isoformat(timespec="seconds")}


async def _open_ticket_of(
    connection: AsyncConnection, tenant: str, caller: str, number: str, now: datetime
) -> dict[str, str] | None:
    """Return this caller's payment ticket of the order while it waits for its answer, or None."""
    # The order is locked so that two concurrent requests don't both find no ticket.
    await connection.execute(
        select(Order.number).where(Order.tenant == tenant, Order.number == number).with_for_update()
    )
    mine = (Ticket.tenant == tenant) & (Ticket.caller == caller) & (Ticket.number == number)
    waits = (Ticket.kind == "payment") & (Ticket.answer_by > now)
    result = await connection.execute(
        select(Ticket.id, Ticket.answer_by).where(mine, waits).order_by(Ticket.id).limit(1)
    )
    row = result.one_or_none()
    return _shown(*row) if row else None
