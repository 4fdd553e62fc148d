"""Tables of the demo shop. All keys start with the tenant, so that one tenant's order is unknown to another.

A change here needs a migration in `migrations/versions`. A test compares the migrated tables with this file.
"""

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Date,
    DateTime,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID = String(128)
STATUSES = ("awaiting_payment", "processing", "shipped", "delivered", "cancelled", "partly_refunded")
PAYMENTS = ("unpaid", "paid", "failed", "charged_twice")
REFUNDS = ("requested", "approved", "paid", "refused")


class Base(DeclarativeBase):
    """Metadata of all tables."""


def _customer() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant", "customer_id"], ["customers.tenant", "customers.id"])


def _order() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(["tenant", "number"], ["orders.tenant", "orders.number"])


class Customer(Base):
    """A customer. `id` is the user id that the identity provider gives.

    The account ends on the day `deletion_on`.
    """

    __tablename__ = "customers"

    tenant: Mapped[str] = mapped_column(ID, primary_key=True)
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    phone: Mapped[str] = mapped_column(String(20))
    email: Mapped[str] = mapped_column(String(254))
    address: Mapped[str] = mapped_column(String(200))
    city: Mapped[str] = mapped_column(String(100))
    newsletter: Mapped[bool] = mapped_column(Boolean, server_default=false())
    deletion_on: Mapped[date | None] = mapped_column(Date)


class Order(Base):
    """One order. Money in the currency's smallest unit.

    `delivered_days_ago` is for demo orders that were delivered "yesterday": the date is computed when
    the row is read, so it stays true however old the database is. It overrides `delivered_on`.
    """

    __tablename__ = "orders"
    __table_args__ = (_customer(), Index("orders_of_customer", "tenant", "customer_id"))

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
    address: Mapped[str] = mapped_column(String(310), server_default="")  # city and street, as written there
    payment_status: Mapped[str] = mapped_column(String(20), server_default="paid")
    payment_zh: Mapped[str | None] = mapped_column(String(50))
    payment_en: Mapped[str | None] = mapped_column(String(50))


class Inquiry(Base):
    """A customer's question about an order, stored once for each key."""

    __tablename__ = "inquiries"
    __table_args__ = (_order(), UniqueConstraint("tenant", "key"), Index("inquiries_of_order", "tenant", "number"))

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    tenant: Mapped[str] = mapped_column(ID)
    key: Mapped[str] = mapped_column(String(255))
    number: Mapped[str] = mapped_column(String(8))
    kind: Mapped[str] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Attempt(Base):
    """The number of guests' attempts at one order number within one window, whether the order exists or not."""

    __tablename__ = "attempts"
    __table_args__ = (Index("attempts_by_age", "since"),)

    tenant: Mapped[str] = mapped_column(ID, primary_key=True)
    number: Mapped[str] = mapped_column(String(8), primary_key=True)
    window_s: Mapped[int] = mapped_column(Integer, primary_key=True)
    tries: Mapped[int] = mapped_column(Integer)
    since: Mapped[float] = mapped_column(Float)


class Answered(Base):
    """The answer to a caller's request under an Idempotency-Key, stored with the effect in one transaction.

    `fingerprint` is the SHA-256 of the request, `body` the bytes of the answer.
    """

    __tablename__ = "answered"
    __table_args__ = (Index("answered_by_age", "at"),)

    tenant: Mapped[str] = mapped_column(ID, primary_key=True)
    caller: Mapped[str] = mapped_column(String(140), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int] = mapped_column(Integer)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    at: Mapped[float] = mapped_column(Float)


class Refund(Base):
    """A refund. The number that customers see is R and 70,000,000 plus `id`."""

    __tablename__ = "refunds"
    __table_args__ = (_order(), Index("refunds_of_order", "tenant", "number"))

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    tenant: Mapped[str] = mapped_column(ID)
    number: Mapped[str] = mapped_column(String(8))
    status: Mapped[str] = mapped_column(String(20))
    amount_minor: Mapped[int] = mapped_column(Integer)
    reason: Mapped[str] = mapped_column(String(500))
    requested_on: Mapped[date] = mapped_column(Date)
    expected_on: Mapped[date | None] = mapped_column(Date)
    paid_on: Mapped[date | None] = mapped_column(Date)


class Invoice(Base):
    """The invoice of an order, in the name of `title`; `status` is requested or issued."""

    __tablename__ = "invoices"
    __table_args__ = (_order(),)

    tenant: Mapped[str] = mapped_column(ID, primary_key=True)
    number: Mapped[str] = mapped_column(String(8), primary_key=True)
    status: Mapped[str] = mapped_column(String(20))
    title: Mapped[str] = mapped_column(String(100))
    requested_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Address(Base):
    """A shipping address in a customer's book; one of them is the default."""

    __tablename__ = "addresses"
    __table_args__ = (_customer(), Index("addresses_of_customer", "tenant", "customer_id"))

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    tenant: Mapped[str] = mapped_column(ID)
    customer_id: Mapped[str] = mapped_column(ID)
    address: Mapped[str] = mapped_column(String(310))
    is_default: Mapped[bool] = mapped_column(Boolean)


class PasswordReset(Base):
    """A link for a new password that the mail system is to send."""

    __tablename__ = "password_resets"
    __table_args__ = (_customer(),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    tenant: Mapped[str] = mapped_column(ID)
    customer_id: Mapped[str] = mapped_column(ID)
    requested_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Ticket(Base):
    """A ticket for the shop's staff. `caller` is as in `answered`. Its number is T and 80,000,000 plus `id`."""

    __tablename__ = "tickets"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    tenant: Mapped[str] = mapped_column(ID)
    caller: Mapped[str] = mapped_column(String(140))
    kind: Mapped[str] = mapped_column(String(20))
    text: Mapped[str] = mapped_column(String(2000))
    number: Mapped[str | None] = mapped_column(String(8))
    call_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    rating: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    answer_by: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class Product(Base):
    """A product. `synonyms` are other names that people use, in any language."""

    __tablename__ = "products"

    tenant: Mapped[str] = mapped_column(ID, primary_key=True)
    sku: Mapped[str] = mapped_column(String(20), primary_key=True)
    name_zh: Mapped[str] = mapped_column(String(100))
    name_en: Mapped[str] = mapped_column(String(100))
    synonyms: Mapped[list[str]] = mapped_column(JSON)
    price_minor: Mapped[int] = mapped_column(Integer)
    currency: Mapped[str] = mapped_column(String(3))
    stock: Mapped[int] = mapped_column(Integer)
    warranty_months: Mapped[int] = mapped_column(Integer)
    features_zh: Mapped[list[str]] = mapped_column(JSON)
    features_en: Mapped[list[str]] = mapped_column(JSON)


class Policies(Base):
    """A tenant's rules, which `GET /v1/policies` returns and `rules.py` applies."""

    __tablename__ = "policies"

    tenant: Mapped[str] = mapped_column(ID, primary_key=True)
    rules: Mapped[dict[str, Any]] = mapped_column(JSON)
