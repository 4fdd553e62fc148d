"""Orders, for their owner and for a guest who gives the phone's last four digits; others get "not found"."""

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, bindparam, case, delete, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ops.local.shop.models import Attempt, Customer, Inquiry, Invoice, Order, Policies, Refund
from ops.local.shop.rules import OPEN, cancellation_fee, day, delivered_on, items_changeable, money, refundable
from ops.local.shop.store import Store

# Guests' tries of one order number by window in seconds: the short window gives a customer who
# mistypes another chance soon, the day makes the 10,000 endings a matter of 500 days.
LIMITS = {15 * 60: 5, 24 * 3600: 20}
LISTED = 50
NO_PHONE = "x" * 4  # compared with when there is no order, so that both ways cost the same

Row = dict[str, Any]


def _whole() -> Select[Any]:
    same = (Refund.tenant == Order.tenant) & (Refund.number == Order.number)
    return (
        select(
            Order.__table__, Customer.phone, Customer.email, Policies.rules, Invoice.status.label("invoice"),
            exists().where(same, Refund.status != "paid").label("open_refund"),
        )
        .join(Customer, (Customer.tenant == Order.tenant) & (Customer.id == Order.customer_id))
        .outerjoin(Policies, Policies.tenant == Order.tenant)
        .outerjoin(Invoice, (Invoice.tenant == Order.tenant) & (Invoice.number == Order.number))
        .where(Order.tenant == bindparam("of_tenant"))
    )  # fmt: skip


# Made once: to put such a query together takes longer than to run it.
_ONE = _whole().where(Order.number == bindparam("of_number"))
_OF_CUSTOMER = _whole().where(Order.customer_id == bindparam("of_customer")).order_by(Order.number.desc()).limit(LISTED)


class TooManyAttempts(Exception):
    """A guest tried this number too often, be it an order or not. `retry_after_s` counts whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many attempts")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Recorded:
    """An inquiry as stored under its key. `same`: the request equals the one that was stored."""

    row: Row
    same: bool


class OrderBook:
    """Reads and writes of the shop; each method is one transaction and never blocks the loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def own(self, tenant: str, customer: str, number: str) -> Row | None:
        """Return the customer's order, or None, for an unknown order as for another customer's."""
        async with self._store.reading() as connection:
            found = await find(connection, tenant, number)
        owner = found["customer_id"] if found else ""
        return found if hmac.compare_digest(owner.encode(), customer.encode()) and found else None

    async def all_own(self, tenant: str, customer: str) -> list[Row]:
        """Return the customer's newest orders, fifty at most."""
        async with self._store.reading() as connection:
            found = await connection.execute(_OF_CUSTOMER, {"of_tenant": tenant, "of_customer": customer})
            return [dict(row) for row in found.mappings()]

    async def of_guest(self, tenant: str, number: str, phone_last4: str) -> Row | None:
        """Return the order if its customer's phone ends in these digits, else None.

        The try is counted before it is looked at, so that many at once get no further than one
        after another; the right digits clear the count.

        Raises:
            TooManyAttempts: also for the right digits, else a guess could go on unseen.
        """
        async with self._store.writing() as connection:
            wait_s = await self._count(connection, tenant, number)
            found = await find(connection, tenant, number)
            ending = found["phone"][-4:] if found else NO_PHONE
            right = hmac.compare_digest(ending.encode(), phone_last4.encode()) and found is not None
            if right and not wait_s:
                await connection.execute(delete(Attempt).where(Attempt.tenant == tenant, Attempt.number == number))
        if wait_s:  # raised outside: the transaction, and the count with it, must be kept
            raise TooManyAttempts(wait_s)
        return found if right else None

    async def refunds(self, tenant: str, number: str) -> list[Row]:
        """Return the refunds of an order, the newest first."""
        query = select(Refund.__table__).where(Refund.tenant == tenant, Refund.number == number)
        async with self._store.reading() as connection:
            found = await connection.execute(query.order_by(Refund.id.desc()).limit(LISTED))
            return [dict(row) for row in found.mappings()]

    async def record_inquiry(self, tenant: str, key: str, number: str, kind: str) -> Recorded:
        """Store an inquiry once for each key; a key that is known gives what was stored.

        Raises:
            IntegrityError: the tenant has no order of that number.
        """
        now = datetime.fromtimestamp(self._store.clock(), UTC)
        values = {"tenant": tenant, "key": key, "number": number, "kind": kind, "created_at": now}
        insert = self._store.insert(Inquiry).values(values).on_conflict_do_nothing(index_elements=["tenant", "key"])
        async with self._store.writing() as connection:
            await connection.execute(insert)
            query = select(Inquiry.__table__).where(Inquiry.tenant == tenant, Inquiry.key == key)
            row = dict((await connection.execute(query)).mappings().one())
        return Recorded(row, (row["number"], row["kind"]) == (number, kind))

    async def inquiries(self, tenant: str, number: str) -> tuple[int, list[Row]]:
        """Return how many inquiries about an order there are, and the newest, fifty at most."""
        about = (Inquiry.tenant == tenant) & (Inquiry.number == number)
        async with self._store.reading() as connection:
            count = await connection.scalar(select(func.count()).select_from(Inquiry).where(about))
            newest = select(Inquiry.__table__).where(about).order_by(Inquiry.id.desc()).limit(LISTED)
            return count, [dict(row) for row in (await connection.execute(newest)).mappings()]

    async def _count(self, connection: AsyncConnection, tenant: str, number: str) -> int:
        """Count one more try; return the seconds to wait, 0 while the limits are kept."""
        now = self._store.clock()
        first = [{"tenant": tenant, "number": number, "window_s": w, "tries": 1, "since": now} for w in LIMITS]
        over = Attempt.since <= now - Attempt.window_s
        upsert = self._store.insert(Attempt).values(first).on_conflict_do_update(
            index_elements=["tenant", "number", "window_s"],
            set_={"tries": case((over, 1), else_=Attempt.tries + 1), "since": case((over, now), else_=Attempt.since)},
        )  # fmt: skip
        counted = await connection.execute(upsert.returning(Attempt.window_s, Attempt.tries, Attempt.since))
        waits = [since + window - now for window, tries, since in counted if tries > LIMITS[window]]
        # Bounded: what no window needs any more goes.
        await connection.execute(delete(Attempt).where(Attempt.since < now - max(LIMITS)))
        return max(1, round(max(waits))) if waits else 0


async def find(connection: AsyncConnection, tenant: str, number: str) -> Row | None:
    """Return an order with what the rules go by: `rules`, `invoice`, `open_refund`, and its customer's phone, email."""
    found = await connection.execute(_ONE, {"of_tenant": tenant, "of_number": number})
    row = found.mappings().one_or_none()
    return dict(row) if row else None


async def locked(connection: AsyncConnection, tenant: str, number: str) -> Row:
    """Return an order that no other transaction changes until this one ends."""
    # Locked first and read after: a read that waits for the lock would see the other tables as they were before.
    same = (Order.tenant == tenant) & (Order.number == number)
    await connection.execute(select(Order.number).where(same).with_for_update())
    row = await find(connection, tenant, number)
    if row is None:
        raise LookupError("the order is gone")
    return row


def shown(row: Row, now: float) -> Row:
    """Return an order as the API shows it: of the person only where it goes to, amounts as decimal strings.

    Args:
        row: of `find`.
        now: seconds since the epoch, for what depends on the time.
    """
    fee, delivered = cancellation_fee(row, now), delivered_on(row, now)
    return {
        "number": row["number"],
        "status": row["status"],
        "items": [_item(item) for item in row["items"]],
        "amount": money(row["amount_minor"]),
        "refunded": money(row["refunded_minor"]),
        "currency": row["currency"],
        "placed_on": day(row["placed_at"]).isoformat(),
        "address": row["address"],
        "carrier": _words(row["carrier_zh"], row["carrier_en"]),
        "tracking_number": row["tracking_number"],
        "delivered_on": delivered.isoformat() if delivered else None,
        "cancellable": fee is not None,
        "cancellation_fee": None if fee is None else money(fee),
        "address_changeable": row["status"] in OPEN,
        "items_changeable": items_changeable(row),
        "refundable": refundable(row, now),
        "invoice": row["invoice"] or "none",
        "payment": {"status": row["payment_status"], "method": _words(row["payment_zh"], row["payment_en"])},
    }


def _item(item: Row) -> Row:
    return {
        "name_zh": item["name_zh"], "name_en": item["name_en"], "quantity": item["quantity"],
        "price": money(item["price_minor"]),
    }  # fmt: skip


def _words(zh: str | None, en: str | None) -> dict[str, str] | None:
    return {"zh": zh, "en": en} if zh and en else None
