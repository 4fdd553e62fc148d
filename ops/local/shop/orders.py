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

# The number of attempts that guests have at one order number, by window in seconds. After the short window a customer
# who mistyped can try again. With 20 attempts a day, trying all 10,000 combinations of digits takes 500 days.
LIMITS = {15 * 60: 5, 24 * 3600: 20}
LISTED = 50
NO_PHONE = "x" * 4  # compared with the digits if there is no order, so that both cases take the same time

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


# Built once: building such a query takes longer than running it.
_ONE = _whole().where(Order.number == bindparam("of_number"))
_OF_CUSTOMER = _whole().where(Order.customer_id == bindparam("of_customer")).order_by(Order.number.desc()).limit(LISTED)


class TooManyAttempts(Exception):
    """Guests tried this number too often, whether it is an order or not. `retry_after_s` is in whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many attempts")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Recorded:
    """An inquiry as stored under its key. `same` says whether the request equals the stored inquiry."""

    row: Row
    same: bool


class OrderBook:
    """Reads and writes of orders and inquiries. Each method is one transaction and never blocks the event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def own(self, tenant: str, customer: str, number: str) -> Row | None:
        """Return the customer's order. None for an unknown order and for another customer's."""
        async with self._store.reading() as connection:
            row = await find(connection, tenant, number)
        owner = row["customer_id"] if row else ""
        return row if hmac.compare_digest(owner.encode(), customer.encode()) and row else None

    async def all_own(self, tenant: str, customer: str) -> list[Row]:
        """Return the customer's newest orders, at most 50."""
        async with self._store.reading() as connection:
            result = await connection.execute(_OF_CUSTOMER, {"of_tenant": tenant, "of_customer": customer})
            return [dict(row) for row in result.mappings()]

    async def of_guest(self, tenant: str, number: str, phone_last4: str) -> Row | None:
        """Return the order if its customer's phone ends in these digits, else None.

        The attempt is counted before the digits are compared, so that concurrent attempts have no advantage over
        successive ones. The right digits reset the count.

        Raises:
            TooManyAttempts: also for the right digits; otherwise one could go on guessing beyond the limit.
        """
        async with self._store.writing() as connection:
            wait_s = await self._count(connection, tenant, number)
            row = await find(connection, tenant, number)
            ending = row["phone"][-4:] if row else NO_PHONE
            right = hmac.compare_digest(ending.encode(), phone_last4.encode()) and row is not None
            if right and not wait_s:
                await connection.execute(delete(Attempt).where(Attempt.tenant == tenant, Attempt.number == number))
        if wait_s:  # raised outside of the transaction, which must commit the count
            raise TooManyAttempts(wait_s)
        return row if right else None

    async def refunds(self, tenant: str, number: str) -> list[Row]:
        """Return the refunds of an order, the newest first, at most 50."""
        query = select(Refund.__table__).where(Refund.tenant == tenant, Refund.number == number)
        async with self._store.reading() as connection:
            result = await connection.execute(query.order_by(Refund.id.desc()).limit(LISTED))
            return [dict(row) for row in result.mappings()]

    async def record_inquiry(self, tenant: str, key: str, number: str, kind: str) -> Recorded:
        """Store an inquiry once for each key. For a known key, return the stored inquiry.

        Raises:
            IntegrityError: the tenant has no order with that number.
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
        """Return the number of inquiries about an order, and the newest ones, at most 50."""
        about = (Inquiry.tenant == tenant) & (Inquiry.number == number)
        async with self._store.reading() as connection:
            count = await connection.scalar(select(func.count()).select_from(Inquiry).where(about))
            assert count is not None
            newest = select(Inquiry.__table__).where(about).order_by(Inquiry.id.desc()).limit(LISTED)
            return count, [dict(row) for row in (await connection.execute(newest)).mappings()]

    async def _count(self, connection: AsyncConnection, tenant: str, number: str) -> int:
        """Count one more attempt. Return the seconds to wait, 0 within the limits."""
        now = self._store.clock()
        first = [{"tenant": tenant, "number": number, "window_s": w, "tries": 1, "since": now} for w in LIMITS]
        over = Attempt.since <= now - Attempt.window_s
        upsert = self._store.insert(Attempt).values(first).on_conflict_do_update(
            index_elements=["tenant", "number", "window_s"],
            set_={"tries": case((over, 1), else_=Attempt.tries + 1), "since": case((over, now), else_=Attempt.since)},
        )  # fmt: skip
        counts = await connection.execute(upsert.returning(Attempt.window_s, Attempt.tries, Attempt.since))
        waits = [since + window - now for window, tries, since in counts if tries > LIMITS[window]]
        # Delete the counts that no window needs any more: the table stays bounded.
        await connection.execute(delete(Attempt).where(Attempt.since < now - max(LIMITS)))
        return max(1, round(max(waits))) if waits else 0


async def find(connection: AsyncConnection, tenant: str, number: str) -> Row | None:
    """Return an order with the columns that the rules need: `rules`, `invoice`, `open_refund`, `phone` and `email`."""
    result = await connection.execute(_ONE, {"of_tenant": tenant, "of_number": number})
    row = result.mappings().one_or_none()
    return dict(row) if row else None


async def locked(connection: AsyncConnection, tenant: str, number: str) -> Row:
    """Return an order that no other transaction changes until this one ends."""
    # Lock first, then read: a read that waits for the lock would see the other tables as they were before the wait.
    same = (Order.tenant == tenant) & (Order.number == number)
    await connection.execute(select(Order.number).where(same).with_for_update())
    row = await find(connection, tenant, number)
    if row is None:
        raise LookupError("the order is gone")
    return row


def shown(row: Row, now: float) -> Row:
    """Return an order as the API shows it. The delivery address is its only personal data; amounts are decimal strings.

    Args:
        row: an order from `find`.
        now: seconds since the epoch, for the values that depend on the time.
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
