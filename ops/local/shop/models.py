"""Tables of the demo shop. All keys start with the tenant: one tenant's order is unknown to another."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import JSON, Date, DateTime, Float, ForeignKeyConstraint, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID = String(128)
STATUSES = ("awaiting_payment", "processing", "shipped", "delivered", "cancelled", "partly_refunded")


class Base(DeclarativeBase):
    """Metadata of all tables."""


class Customer(Base):
    """Who orders. `id` is the user id that the identity provider vouches for."""

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

    `delivered_days_ago` is for demo rows that are told as "yesterday": the date is computed at
    reading, so the story stays true however old the database is. It wins over `delivered_on`.
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
    """Someone asked about an order: the one write that the assistant causes, once for each key."""

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
    """Guests' tries at one order number within one window, whether the order exists or not."""

    __tablename__ = "attempts"
    __table_args__ = (Index("attempts_by_age", "since"),)

    tenant: Mapped[str] = mapped_column(ID, primary_key=True)
    number: Mapped[str] = mapped_column(String(8), primary_key=True)
    window_s: Mapped[int] = mapped_column(Integer, primary_key=True)
    tries: Mapped[int] = mapped_column(Integer)
    since: Mapped[float] = mapped_column(Float)
