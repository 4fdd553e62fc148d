"""The tasks on an order. Each task has one effect on a locked order, and an answer.

In: the order from `orders.locked`, and the fields of the request. Out: an `Answer`. A refusal changes nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ops.local.shop.idempotency import Answer
from ops.local.shop.models import Invoice, Order, Product, Refund
from ops.local.shop.orders import Row, locked, shown
from ops.local.shop.rules import (
    NO_ADDRESS,
    NO_CANCELLATION,
    PAID,
    cancellation_fee,
    items_changeable,
    masked_email,
    money,
    refund_refused,
    today,
)
from ops.local.shop.web import done, refused

FIRST_REFUND = 70_000_000  # added to the id, so that all numbers have eight digits


@dataclass(frozen=True)
class Task:
    """The input of a task: a transaction, the order locked in it, the request's fields, and the time in seconds."""

    connection: AsyncConnection
    order: Row
    asked: Row
    now: float

    async def change(self, **values: Any) -> None:
        """Update these columns of the order."""
        same = (Order.tenant == self.order["tenant"]) & (Order.number == self.order["number"])
        await self.connection.execute(update(Order).where(same).values(**values))

    async def answer(self) -> Answer:
        """Return an answer with the changed order."""
        return done(200, shown(await locked(self.connection, self.order["tenant"], self.order["number"]), self.now))

    def product(self, item: Row) -> ColumnElement[bool]:
        """Return the condition that selects an item's product."""
        return (Product.tenant == self.order["tenant"]) & (Product.sku == item["sku"])


Perform = Callable[[Task], Awaitable[Answer]]


async def cancel(task: Task) -> Answer:
    """Cancel the order for the fee that the customer accepted, if any; restock it and pay back the rest."""
    order, fee = task.order, cancellation_fee(task.order, task.now)
    if fee is None:
        return refused(NO_CANCELLATION[order["status"]])
    if task.asked["fee"] not in (None, money(fee)):
        return refused("fee_changed")
    await task.change(status="cancelled")
    for item in sorted((item for item in order["items"] if item.get("sku")), key=lambda item: item["sku"]):
        back = update(Product).where(task.product(item)).values(stock=Product.stock + item["quantity"])
        await task.connection.execute(back)
    refund = order["amount_minor"] - fee if order["payment_status"] in PAID else 0
    if refund:
        await _pay_back(task, refund, "approved", "cancelled")
    return done(201, {"status": "cancelled", "fee": money(fee), "refund": money(refund), "currency": order["currency"]})


async def change_item(task: Task) -> Answer:
    """Change the quantity of an item, and take the pieces from the stock or return them."""
    order, place, quantity = task.order, task.asked["item"], task.asked["quantity"]
    if not items_changeable(order):
        return refused("not_changeable")
    if not 1 <= place <= len(order["items"]):
        return refused("no_such_item")
    if not 1 <= quantity <= order["rules"]["quantity_limit"]:
        return refused("quantity_limit")
    items = [dict(item) for item in order["items"]]
    item = items[place - 1]
    if not await _take(task, item, quantity - item["quantity"]):
        return refused("out_of_stock")
    item["quantity"] = quantity
    await task.change(items=items, amount_minor=sum(each["price_minor"] * each["quantity"] for each in items))
    return await task.answer()


async def _take(task: Task, item: Row, pieces: int) -> bool:
    """Take pieces from the stock; a negative number returns them. Return False if the stock is too low."""
    if not item.get("sku"):  # no longer on sale: the customer can reduce the quantity, but not raise it
        return pieces <= 0
    enough = task.product(item) & (Product.stock >= pieces)
    result = await task.connection.execute(update(Product).where(enough).values(stock=Product.stock - pieces))
    return result.rowcount == 1


async def change_address(task: Task) -> Answer:
    """Change the delivery address."""
    reason = NO_ADDRESS.get(task.order["status"])
    if reason:
        return refused(reason)
    await task.change(address=task.asked["address"])
    return await task.answer()


async def request_refund(task: Task) -> Answer:
    """Request a refund of the amount not paid back yet."""
    reason = refund_refused(task.order, task.now)
    if reason:
        return refused(reason)
    rest = task.order["amount_minor"] - task.order["refunded_minor"]
    return done(
        201, refund_shown(await _pay_back(task, rest, "requested", task.asked["reason"]), task.order["currency"])
    )


async def _pay_back(task: Task, amount_minor: int, status: str, reason: str) -> Row:
    since = today(task.now)
    row = {
        "tenant": task.order["tenant"], "number": task.order["number"], "status": status, "reason": reason,
        "amount_minor": amount_minor, "requested_on": since, "paid_on": None,
        "expected_on": since + timedelta(days=task.order["rules"]["refund_paid_within_days"]),
    }  # fmt: skip
    id_ = await task.connection.scalar(insert(Refund).values(row).returning(Refund.id))
    return {**row, "id": id_}


def refund_shown(row: Row, currency: str) -> Row:
    """Return a refund as the API shows it."""
    days: dict[str, date | None] = {name: row[name] for name in ("requested_on", "expected_on", "paid_on")}
    return {
        "number": f"R{FIRST_REFUND + row['id']}", "status": row["status"], "amount": money(row["amount_minor"]),
        "currency": currency, **{name: day.isoformat() if day else None for name, day in days.items()},
    }  # fmt: skip


async def request_invoice(task: Task) -> Answer:
    """Request the invoice. Until it is issued, another request changes its title."""
    order, title = task.order, task.asked["title"]
    if order["status"] == "cancelled":
        return refused("cancelled")
    if order["payment_status"] not in PAID:
        return refused("not_paid")
    if order["invoice"] == "issued":
        return refused("already_issued")
    same = (Invoice.tenant == order["tenant"]) & (Invoice.number == order["number"])
    if order["invoice"]:
        await task.connection.execute(update(Invoice).where(same).values(title=title))
    else:
        row = {"tenant": order["tenant"], "number": order["number"], "status": "requested", "title": title}
        at = datetime.fromtimestamp(task.now, UTC)
        await task.connection.execute(insert(Invoice).values({**row, "requested_at": at}))
    return done(201, {"status": "requested", "title": title, "sent_to": masked_email(order["email"])})


async def ship(task: Task) -> Answer:
    """Hand the order to the carrier; only the shop's staff can do this."""
    if task.order["status"] != "processing":
        return refused(task.order["status"])
    await task.change(status="shipped", **task.asked)
    return await task.answer()


async def performed(
    connection: AsyncConnection, tenant: str, number: str, asked: Row, now: float, perform: Perform
) -> Answer:
    """Perform a task on an order that exists."""
    return await perform(Task(connection, await locked(connection, tenant, number), asked, now))
