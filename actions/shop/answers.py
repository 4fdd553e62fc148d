"""The types that the shop's client takes and returns. Amounts are decimal strings, beside their currency.

`Words` are texts for people, by language: `{"zh": ..., "en": ...}`.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

Words = dict[str, str]


@dataclass(frozen=True)
class Asker:
    """The customer or guest for whom a call is made, as their token names them.

    Args:
        tenant: tenant that the shop belongs to.
        customer: id of a known customer; None for a guest.
        guest: user id of a guest. It is the scope of the guest's keys, and the sender of calls that name no order.
        phone_last4: last four digits of the phone that a guest gave for an order; a known customer needs none.
    """

    tenant: str
    customer: str | None = None
    guest: str | None = None
    phone_last4: str | None = None


@dataclass(frozen=True)
class NotFound:
    """The shop has nothing under this number that the asker may see.

    The order is unknown or another customer's, or the phone digits are wrong. The shop doesn't say which.
    """


@dataclass(frozen=True)
class TooManyAttempts:
    """A guest tried this order number too often."""

    retry_after_s: int


@dataclass(frozen=True)
class Refused:
    """The shop refuses the call, and nothing has changed. `reason` is one of those in the call's docstring."""

    reason: str


@dataclass(frozen=True)
class Item:
    """One item of an order. `price` is the price of one piece."""

    name: Words
    quantity: int
    price: str


@dataclass(frozen=True)
class Payment:
    """The payment of an order. `status`: unpaid, paid, failed or charged_twice. `method`: None if none was chosen."""

    status: str
    method: Words | None


@dataclass(frozen=True)
class Refundable:
    """Whether a refund can be requested: the last day for it (`until`), or the `reason` why it can't.

    Reasons: not_paid, not_delivered, too_late, already_requested.
    """

    until: date | None
    reason: str | None


@dataclass(frozen=True)
class Order:
    """An order that the asker may see.

    Attributes:
        status: awaiting_payment, processing, shipped, delivered, cancelled or partly_refunded.
        refunded: amount paid back so far.
        address: city and street of delivery.
        cancellation_fee: fee for cancelling now; None if the order can't be cancelled.
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
    """A cancelled order: `fee` is the fee for it, `refund` the part of the payment that is paid back."""

    status: str
    fee: str
    refund: str
    currency: str


@dataclass(frozen=True)
class Refund:
    """A refund. `status`: requested, approved, paid or refused. `requested_on` may be None just after the request."""

    number: str
    status: str
    amount: str
    currency: str
    requested_on: date | None
    expected_on: date | None
    paid_on: date | None


@dataclass(frozen=True)
class Invoice:
    """A requested invoice. `sent_to` is a masked e-mail address."""

    status: str
    title: str
    sent_to: str


@dataclass(frozen=True)
class Address:
    """A shipping address in a customer's address book."""

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
    """A requested deletion of an account. The shop deletes it on the day `on`; until then its staff can stop that."""

    on: date


@dataclass(frozen=True)
class Ticket:
    """A ticket for the shop's staff, who answer by `answer_by`."""

    number: str
    answer_by: datetime


@dataclass(frozen=True)
class Product:
    """A product of the shop; `stock` counts pieces."""

    sku: str
    name: Words
    price: str
    currency: str
    stock: int
    warranty_months: int
    features: dict[str, list[str]]


@dataclass(frozen=True)
class Policies:
    """The shop's rules; every text by language.

    Attributes:
        account_deleted_after_days: days from the request to the deletion; until then the staff can cancel it.
        payment_methods: names of the methods.
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
