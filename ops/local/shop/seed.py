"""The first rows: demo customers and goods for empty tables, and rules for tenants without rules."""

import logging
from typing import Any

from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ops.local.shop import demo
from ops.local.shop.demo_goods import products
from ops.local.shop.demo_policies import POLICIES
from ops.local.shop.models import Address, Base, Customer, Invoice, Order, Policies, Product, Refund
from ops.local.shop.rules import today

logger = logging.getLogger(__name__)


async def seed(connection: AsyncConnection, now: float) -> None:
    """Write the missing rows, in the caller's transaction. `now`, in seconds, is the time for refunds in progress."""
    if not await connection.scalar(select(func.count()).select_from(Customer)):
        await _customers(connection, now)
    if not await connection.scalar(select(func.count()).select_from(Product)):
        await _insert(connection, Product, products(demo.TENANT))
    tenants = set(await connection.scalars(select(Customer.tenant).distinct()))
    missing = tenants - set(await connection.scalars(select(Policies.tenant)))
    if missing:
        rows = [{"tenant": tenant, "rules": POLICIES} for tenant in sorted(missing)]
        await _insert(connection, Policies, rows)


async def _customers(connection: AsyncConnection, now: float) -> None:
    customers, orders = demo.customers(), demo.orders()
    addresses = {row["customer_id"]: row["address"] for row in reversed(demo.addresses(customers))}
    rows: dict[type[Base], list[dict[str, Any]]] = {
        Customer: customers,
        Address: demo.addresses(customers),
        Order: [{**order, "address": addresses[order["customer_id"]]} for order in orders],
        Refund: demo.refunds(orders, today(now)),
        Invoice: demo.invoices(orders),
    }
    for entity, values in rows.items():
        await _insert(connection, entity, values)
    logger.info("demo data written", extra={"fields": {"customers": len(customers), "orders": len(orders)}})


async def _insert(connection: AsyncConnection, entity: type[Base], rows: list[dict[str, Any]]) -> None:
    table = entity.__table__
    assert isinstance(table, Table)
    await connection.execute(table.insert(), rows)
