"""The shop's tables as `create_all` made them before there were migrations, and rows of that time.

Frozen: databases like this exist, and the shop must bring them up to date.
"""

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, Date, DateTime, Float, ForeignKeyConstraint, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID = String(128)


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customers"

    tenant: Mapped[str] = mapped_column(ID, primary_key=True)
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    phone: Mapped[str] = mapped_column(String(20))
    email: Mapped[str] = mapped_column(String(254))
    address: Mapped[str] = mapped_column(String(200))
    city: Mapped[str] = mapped_column(String(100))


class Order(Base):
    """One order. Money in the currency's smallest unit.

    `delivered_days_ago` is for demo orders that were delivered "yesterday": the date is computed when
    the row is read, so it stays true however old the database is. It overrides `delivered_on`.
    """

    __tablename__ = "orders"
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "customer_id"], ["customers.tenant", "customers.id"]),
        Index("orders_of_customer", "tenant", "customer_id"),
    )

    tenant: Mapped[str] = mapped_column(ID, primary_key=True)
    number: Mapped[str] = mapped_column(String(8), primary_key=True)
    customer_id: Mapped[str] = mapped_column(ID)
    status: Mapped[str] = mapped_column(String(20))
    items: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    amount_minor: Mapped[int] = mapped_column(Integer)
    refunded_minor: Mapped[int] = mapped_column(Integer, default=0)
    currency: Mapped[str] = mapped_column(String(3))
    placed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    carrier_zh: Mapped[str | None] = mapped_column(String(50))
    carrier_en: Mapped[str | None] = mapped_column(String(50))
    tracking_number: Mapped[str | None] = mapped_column(String(40))
    delivered_on: Mapped[date | None] = mapped_column(Date)
    delivered_days_ago: Mapped[int | None] = mapped_column(Integer)


class Inquiry(Base):
    __tablename__ = "inquiries"
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "number"], ["orders.tenant", "orders.number"]),
        UniqueConstraint("tenant", "key"),
        Index("inquiries_of_order", "tenant", "number"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    tenant: Mapped[str] = mapped_column(ID)
    key: Mapped[str] = mapped_column(String(255))
    number: Mapped[str] = mapped_column(String(8))
    kind: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Attempt(Base):
    __tablename__ = "attempts"
    __table_args__ = (Index("attempts_by_age", "since"),)

    tenant: Mapped[str] = mapped_column(ID, primary_key=True)
    number: Mapped[str] = mapped_column(String(8), primary_key=True)
    window_s: Mapped[int] = mapped_column(Integer, primary_key=True)
    tries: Mapped[int] = mapped_column(Integer)
    since: Mapped[float] = mapped_column(Float)


TENANT = "demo"
ALICE = {
    "tenant": TENANT, "id": "alice", "name": "林雨晴", "phone": "13800001234", "email": "alice@example.com",
    "city": "上海市", "address": "浦东新区梧桐路1号",
}  # fmt: skip
BOB = {
    "tenant": TENANT, "id": "bob", "name": "Bob Murphy", "phone": "+447700900567", "email": "bob@example.com",
    "city": "London", "address": "2 Larch Street",
}  # fmt: skip


def old_order(number: str, customer: str, status: str, **changes: Any) -> dict[str, Any]:
    item = {"name_zh": "保温杯", "name_en": "Thermos mug", "quantity": 2, "price_minor": 8900}
    order = {
        "tenant": TENANT, "number": number, "customer_id": customer, "status": status, "items": [item],
        "amount_minor": 17800, "refunded_minor": 0, "currency": "CNY", "placed_at": datetime(2026, 1, 5, tzinfo=UTC),
        "carrier_zh": None, "carrier_en": None, "tracking_number": None, "delivered_on": None,
        "delivered_days_ago": None,
    }  # fmt: skip
    return {**order, **changes}


ORDERS = [
    old_order("20260001", "alice", "processing"),
    old_order("20260002", "alice", "awaiting_payment"),
    old_order("20260005", "alice", "partly_refunded", refunded_minor=4450, delivered_on=date(2026, 1, 9)),
    old_order(
        "20260006", "bob", "delivered", delivered_on=date(2026, 1, 9),
        items=[{"name_zh": "双肩包", "name_en": "Backpack", "quantity": 1, "price_minor": 17800}],
    ),
]  # fmt: skip
INQUIRY = {"tenant": TENANT, "key": "old-key", "number": "20260001", "kind": "tracking",
           "created_at": datetime(2026, 1, 6, tzinfo=UTC)}  # fmt: skip
