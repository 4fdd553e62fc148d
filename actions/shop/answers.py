"""What the shop's client takes and gives. Money is a decimal string with its currency; texts for people by language.

`Words` are `{"zh": ..., "en": ...}`.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

Words = dict[str, str]


@dataclass(frozen=True)
class Asker:
    """Who asks, as the token says.

    Args:
        tenant: whose shop.
        customer: id of a known customer; None for a guest.
        guest: user id of a guest, for what is not about an order, and as the scope of the guest's keys.
        phone_last4: last four digits of the phone that a guest gave for an order; a known customer needs none.
    """

    tenant: str
    customer: str | None = None
    guest: str | None = None
    phone_last4: str | None = None


@dataclass(frozen=True)
class NotFound:
    """No such order for this asker: unknown, another's, or wrong digits. Nobody can tell which."""


@dataclass(frozen=True)
class TooManyAttempts:
    """A guest tried this number too often."""

    retry_after_s: int


@dataclass(frozen=True)
class Refused:
    """The shop will not do it. `reason` is one of those that the call names; nothing has changed."""

    reason: str


@dataclass(frozen=True)
class Item:
    """One line of an order. `price` is that of one piece."""

    name: Words
    quantity: int
    price: str


@dataclass(frozen=True)
class Payment:
    """`status`: unpaid, paid, failed or charged_twice. `method` is None where none was chosen."""

    status: str
    method: Words | None


@dataclass(frozen=True)
class Refundable:
    """Until which day a refund may be asked for; else why not: not_paid, not_delivered, too_late, already_requested."""

    until: date | None
    reason: str | None


@dataclass(frozen=True)
class Order:
    """An order that the asker may see.

    Attributes:
        status: awaiting_payment, processing, shipped, delivered, cancelled or partly_refunded.
        refunded: what was paid back so far.
        address: city and street that it goes to.
        cancellation_fee: what cancelling would cost now; None when it can't be cancelled.
        invoice: none, requested or issued.
    """

    number: str
    status: str
    items: tuple[Item, ...]
    amount: str
    refunded: str
    currency: str
    placed_on: date
    address: str
    carrier: Words | None
    tracking_number: str | None
    delivered_on: date | None
    cancellable: bool
    cancellation_fee: str | None
    address_changeable: bool
    items_changeable: bool
    refundable: Refundable
    invoice: str
    payment: Payment


@dataclass(frozen=True)
class Cancellation:
    """An order was cancelled: what it cost, and what is paid back of what had been paid."""

    status: str
    fee: str
    refund: str
    currency: str


@dataclass(frozen=True)
class Refund:
    """`status`: requested, approved, paid or refused. Of one just asked for, `requested_on` may be None."""

    number: str
    status: str
    amount: str
    currency: str
    requested_on: date | None
    expected_on: date | None
    paid_on: date | None


@dataclass(frozen=True)
class Invoice:
    """An invoice is on its way. `sent_to` is a masked e-mail address."""

    status: str
    title: str
    sent_to: str


@dataclass(frozen=True)
class Address:
    """A shipping address in a customer's book."""

    address: str
    default: bool


@dataclass(frozen=True)
class Account:
    """A customer's account; `phone` and `email` are masked. `deletion_on` is set while its deletion is under way."""

    name: str
    phone: str
    email: str
    newsletter: bool
    deletion_on: date | None


@dataclass(frozen=True)
class Deletion:
    """The account will be deleted on that day, unless the shop's staff take this back until then."""

    on: date


@dataclass(frozen=True)
class Ticket:
    """Somebody of the shop will answer by then."""

    number: str
    answer_by: datetime


@dataclass(frozen=True)
class Product:
    """Goods of the shop; `stock` counts pieces."""

    sku: str
    name: Words
    price: str
    currency: str
    stock: int
    warranty_months: int
    features: dict[str, list[str]]


@dataclass(frozen=True)
class Policies:
    """The shop's rules, as its data says them; every text by language.

    Attributes:
        account_deleted_after_days: from the request on; until then the staff can take it back.
        payment_methods: each in words.
        delivery: each `{"name": Words, "price", "currency", "days": {"min", "max"}, "regions": Words}`.
        cancellation: `{"free_hours", "fee_percent"}`.
        invoice: `{"kinds": Words, "within_hours"}`.
        service: `{"phone", "email", "hours": Words}`.
        registration: `{"steps": Words}`.
        review: `{"where": Words}`.
    """

    refund_days: int
    refund_postage: Words
    refund_paid_within_days: int
    payment_methods: list[Words]
    delivery: list[dict[str, Any]]
    ships_within_hours: int
    quantity_limit: int
    account_deleted_after_days: int
    cancellation: dict[str, Any]
    invoice: dict[str, Any]
    service: dict[str, Any]
    registration: dict[str, Any]
    order_steps: Words
    review: dict[str, Any]
