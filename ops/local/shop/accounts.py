"""The accounts of known customers: how they are read, and the tasks on them. A task has one effect and its answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ops.local.shop.idempotency import Answer
from ops.local.shop.models import Address, Customer, PasswordReset, Policies
from ops.local.shop.rules import masked_email, masked_phone, today
from ops.local.shop.web import done, refused

MAX_ADDRESSES = 20

Row = dict[str, Any]


@dataclass(frozen=True)
class AccountTask:
    """The input of a task: a transaction, the account locked in it, the request's fields, and the time in seconds."""

    connection: AsyncConnection
    account: Row
    asked: Row
    now: float

    @property
    def owner(self) -> Row:
        """The columns that refer to the customer in other tables."""
        return {"tenant": self.account["tenant"], "customer_id": self.account["id"]}

    async def change(self, **values: Any) -> Row:
        """Update these columns of the account; return the changed account."""
        same = (Customer.tenant == self.account["tenant"]) & (Customer.id == self.account["id"])
        await self.connection.execute(update(Customer).where(same).values(**values))
        return {**self.account, **values}


PerformAccount = Callable[[AccountTask], Awaitable[Answer]]


async def find_account(
    connection: AsyncConnection, tenant: str, customer: str, now: float, lock: bool = False
) -> Row | None:
    """Return an account, None if it does not exist or its day of deletion has come. `lock` locks the row."""
    query = select(Customer.__table__).where(Customer.tenant == tenant, Customer.id == customer)
    result = await connection.execute(query.with_for_update() if lock else query)
    row = result.mappings().one_or_none()
    if row is None or (row["deletion_on"] is not None and row["deletion_on"] <= today(now)):
        return None
    return dict(row)


def account_shown(row: Row) -> Row:
    """Return an account as the API shows it."""
    return {
        "name": row["name"], "phone": masked_phone(row["phone"]), "email": masked_email(row["email"]),
        "newsletter": row["newsletter"],
        "deletion_on": row["deletion_on"].isoformat() if row["deletion_on"] else None,
    }  # fmt: skip


async def addresses(connection: AsyncConnection, account: Row) -> list[Row]:
    """Return the address book as the API shows it, the default first."""
    mine = (Address.tenant == account["tenant"]) & (Address.customer_id == account["id"])
    query = select(Address.address, Address.is_default).where(mine).order_by(Address.is_default.desc(), Address.id)
    return [{"address": text, "default": default} for text, default in await connection.execute(query)]


async def add_address(task: AccountTask) -> Answer:
    """Add an address to the book. An address that is there already can only become the default."""
    text, default = task.asked["address"], task.asked["default"]
    known = {row["address"] for row in await addresses(task.connection, task.account)}
    if text not in known and len(known) >= MAX_ADDRESSES:
        return refused("too_many")
    mine = (Address.tenant == task.account["tenant"]) & (Address.customer_id == task.account["id"])
    if text not in known:
        row = {**task.owner, "address": text, "is_default": False}
        await task.connection.execute(insert(Address).values(row))
    if default or not known:  # the first address is always the default
        await task.connection.execute(update(Address).where(mine).values(is_default=Address.address == text))
    book = await addresses(task.connection, task.account)
    return done(201, next(row for row in book if row["address"] == text))


async def rename(task: AccountTask) -> Answer:
    """Change the name."""
    return done(200, account_shown(await task.change(name=task.asked["name"])))


async def reset_password(task: AccountTask) -> Answer:
    """Request a link for a new password, which the mail system sends."""
    at = datetime.fromtimestamp(task.now, UTC)
    await task.connection.execute(insert(PasswordReset).values({**task.owner, "requested_at": at}))
    return done(202, {"sent_to": masked_email(task.account["email"])})


async def delete_account(task: AccountTask) -> Answer:
    """Set the day of deletion. A repeated request does not move the day."""
    on = task.account["deletion_on"]
    if on is None:
        rules = await task.connection.scalar(select(Policies.rules).where(Policies.tenant == task.account["tenant"]))
        assert rules is not None
        on = today(task.now) + timedelta(days=rules["account_deleted_after_days"])
        await task.change(deletion_on=on)
    return done(202, {"on": on.isoformat()})


async def keep_account(task: AccountTask) -> Answer:
    """Cancel the deletion."""
    if task.account["deletion_on"] is None:
        return refused("not_requested")
    await task.change(deletion_on=None)
    return done(200, {"on": None})


async def subscribe(task: AccountTask) -> Answer:
    """Subscribe to the newsletter, or unsubscribe."""
    await task.change(newsletter=task.asked["subscribed"])
    return done(200, {"subscribed": task.asked["subscribed"]})
