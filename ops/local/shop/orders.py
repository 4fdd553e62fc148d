"""What the shop answers about orders: to their owner, to a guest who knows the phone's end, to nobody else."""

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

from sqlalchemy import case, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ops.local.shop.models import Attempt, Customer, Inquiry, Order

# Guests' tries of one order number by window in seconds: the short window gives a customer who
# mistypes another chance soon, the day makes the 10,000 endings a matter of 500 days.
LIMITS = {15 * 60: 5, 24 * 3600: 20}
LISTED = 50
MAX_WRITERS = 10
SHOP_ZONE = timezone(timedelta(hours=8))  # where "today" is; China has one zone without summer time
NO_PHONE = "x" * 4  # compared with when there is no order, so that both ways cost the same

Row = dict[str, Any]


class TooManyAttempts(Exception):
    """A guest tried this number too often, be it an order or not. `retry_after_s` counts whole seconds."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("too many attempts")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Recorded:
    """An inquiry as stored under its key. `same`: the request equals the one that was stored."""

    row: Row
    created: bool
    same: bool


class OrderBook:
    """Reads and writes of the shop; each method is one transaction and never blocks the loop."""

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock
        # SQLite lets in one writer and the others sleep longer and longer: 44 of 4,000 inquiries, 32 at
        # once, took over 0.5 s. In a queue none did.
        self._writers = asyncio.Semaphore(1 if engine.dialect.name == "sqlite" else MAX_WRITERS)
        self._insert = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[engine.dialect.name]

    async def ping(self) -> None:
        """Raise when the database does not answer."""
        async with self._engine.connect() as connection:
            await connection.execute(select(1))

    async def own(self, tenant: str, customer: str, number: str) -> Row | None:
        """Return the customer's order, or None: somebody else's and an unknown one look alike."""
        async with self._engine.connect() as connection:
            found = await self._find(connection, tenant, number)
        owner = found["customer_id"] if found else ""
        return found if hmac.compare_digest(owner.encode(), customer.encode()) and found else None

    async def all_own(self, tenant: str, customer: str) -> list[Row]:
        """Return the customer's newest orders, fifty at most."""
        query = select(Order.__table__).where(Order.tenant == tenant, Order.customer_id == customer)
        async with self._engine.connect() as connection:
            found = await connection.execute(query.order_by(Order.number.desc()).limit(LISTED))
            return [dict(row) for row in found.mappings()]

    async def of_guest(self, tenant: str, number: str, phone_last4: str) -> Row | None:
        """Return the order if its customer's phone ends so, else None.

        The try is counted before it is looked at, so that many at once get no further than one
        after another; the right digits clear the count.

        Raises:
            TooManyAttempts: also for the right digits, else a guess could go on unseen.
        """
        async with self._writers, self._engine.begin() as connection:
            wait_s = await self._count(connection, tenant, number)
            found = await self._find(connection, tenant, number)
            ending = found["phone"][-4:] if found else NO_PHONE
            right = hmac.compare_digest(ending.encode(), phone_last4.encode()) and found is not None
            if right and not wait_s:
                await connection.execute(delete(Attempt).where(Attempt.tenant == tenant, Attempt.number == number))
        if wait_s:  # raised outside: the transaction, and the count with it, must be kept
            raise TooManyAttempts(wait_s)
        return found if right else None

    async def record_inquiry(self, tenant: str, key: str, number: str, kind: str) -> Recorded:
        """Store an inquiry once for each key; a key that is known gives what was stored.

        Raises:
            IntegrityError: the tenant has no order of that number.
        """
        now = datetime.fromtimestamp(self._clock(), UTC)
        values = {"tenant": tenant, "key": key, "number": number, "kind": kind, "created_at": now}
        insert = self._insert(Inquiry).values(values).on_conflict_do_nothing(index_elements=["tenant", "key"])
        async with self._writers, self._engine.begin() as connection:
            created = (await connection.execute(insert)).rowcount == 1
            query = select(Inquiry.__table__).where(Inquiry.tenant == tenant, Inquiry.key == key)
            row = dict((await connection.execute(query)).mappings().one())
        return Recorded(row, created, (row["number"], row["kind"]) == (number, kind))

    async def inquiries(self, tenant: str, number: str) -> tuple[int, list[Row]]:
        """Return how many inquiries about an order there are, and the newest, fifty at most."""
        about = (Inquiry.tenant == tenant) & (Inquiry.number == number)
        async with self._engine.connect() as connection:
            count = await connection.scalar(select(func.count()).select_from(Inquiry).where(about))
            newest = select(Inquiry.__table__).where(about).order_by(Inquiry.id.desc()).limit(LISTED)
            return count, [dict(row) for row in (await connection.execute(newest)).mappings()]

    async def _find(self, connection: AsyncConnection, tenant: str, number: str) -> Row | None:
        owner = (Customer.tenant == Order.tenant) & (Customer.id == Order.customer_id)
        query = select(Order.__table__, Customer.phone).join(Customer, owner)
        found = await connection.execute(query.where(Order.tenant == tenant, Order.number == number))
        row = found.mappings().one_or_none()
        return dict(row) if row else None

    async def _count(self, connection: AsyncConnection, tenant: str, number: str) -> int:
        """Count one more try; return the seconds to wait, 0 while the limits are kept."""
        now = self._clock()
        first = [{"tenant": tenant, "number": number, "window_s": w, "tries": 1, "since": now} for w in LIMITS]
        over = Attempt.since <= now - Attempt.window_s
        upsert = self._insert(Attempt).values(first).on_conflict_do_update(
            index_elements=["tenant", "number", "window_s"],
            set_={"tries": case((over, 1), else_=Attempt.tries + 1), "since": case((over, now), else_=Attempt.since)},
        )  # fmt: skip
        counted = await connection.execute(upsert.returning(Attempt.window_s, Attempt.tries, Attempt.since))
        waits = [since + window - now for window, tries, since in counted if tries > LIMITS[window]]
        # Bounded: what no window needs any more goes.
        await connection.execute(delete(Attempt).where(Attempt.since < now - max(LIMITS)))
        return max(1, round(max(waits))) if waits else 0


def shown(row: Row, now: float) -> Row:
    """Return an order as the API shows it: nothing about the person, amounts as decimal strings.

    Args:
        row: of the table `orders`.
        now: seconds since the epoch, for demo rows that are told relative to today.
    """
    delivered_on = row["delivered_on"]
    if row["delivered_days_ago"] is not None:
        delivered_on = datetime.fromtimestamp(now, SHOP_ZONE).date() - timedelta(days=row["delivered_days_ago"])
    carrier = (row["carrier_zh"], row["carrier_en"])
    return {
        "number": row["number"],
        "status": row["status"],
        "items": row["items"],
        "amount": money(row["amount_minor"]),
        "refunded": money(row["refunded_minor"]),
        "currency": row["currency"],
        "placed_on": _day(row["placed_at"]).isoformat(),
        "carrier": {"zh": carrier[0], "en": carrier[1]} if carrier[0] else None,
        "tracking_number": row["tracking_number"],
        "delivered_on": delivered_on.isoformat() if delivered_on else None,
    }


def _day(moment: datetime) -> date:
    # SQLite gives back what it was given without its zone, and it is given UTC.
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware.astimezone(SHOP_ZONE).date()


def money(minor: int) -> str:
    """Return an amount of cents or fen as a decimal string."""
    return f"{minor // 100}.{minor % 100:02d}"
