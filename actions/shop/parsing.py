"""Reads the shop's JSON into the types of `actions.shop.answers`.

Every reader raises ValueError, KeyError or TypeError for a body that it can't read.
"""

from collections.abc import Callable
from dataclasses import fields
from datetime import date, datetime
from typing import Any, TypeVar

from actions.shop.answers import (
    Account,
    Address,
    Cancellation,
    Deletion,
    Invoice,
    Item,
    Order,
    Payment,
    Policies,
    Product,
    Refund,
    Refundable,
    Ticket,
)

Body = dict[str, Any]
T = TypeVar("T")


def plain(kind: type[T]) -> Callable[[Body], T]:
    """Return a reader for a dataclass whose fields are JSON values of the same names."""
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    return lambda body: kind(**{name: body[name] for name in names})


def many(name: str, read: Callable[[Body], T]) -> Callable[[Body], list[T]]:
    """Return a reader for the list in the body's field `name`; `read` reads each entry."""
    return lambda body: [read(each) for each in body[name]]


_ACCOUNT = ("name", "phone", "email", "newsletter")
address = plain(Address)
cancellation = plain(Cancellation)
invoice = plain(Invoice)
policies = plain(Policies)


def order(body: Body) -> Order:
    """Return the order in a body."""
    refundable = body["refundable"]
    typed: Body = {
        "items": tuple(_item(each) for each in body["items"]),
        "placed_on": date.fromisoformat(body["placed_on"]),
        "delivered_on": _day(body["delivered_on"]),
        "refundable": Refundable(_day(refundable["until"]), refundable["reason"]),
        "payment": Payment(body["payment"]["status"], body["payment"]["method"]),
    }
    return Order(**{**{field.name: body[field.name] for field in fields(Order)}, **typed})


def _item(body: Body) -> Item:
    return Item({"zh": body["name_zh"], "en": body["name_en"]}, body["quantity"], body["price"])


def refund(body: Body) -> Refund:
    """Return the refund in a body, which is an entry of a list or the answer to a request."""
    days = {name: _day(body.get(name)) for name in ("requested_on", "expected_on", "paid_on")}
    return Refund(body["number"], body["status"], body["amount"], body["currency"], **days)


def account(body: Body) -> Account:
    """Return the account in a body."""
    return Account(**{name: body[name] for name in _ACCOUNT}, deletion_on=_day(body["deletion_on"]))


def deletion(body: Body) -> Deletion:
    """Return the requested deletion of an account in a body."""
    return Deletion(date.fromisoformat(body["on"]))


def ticket(body: Body) -> Ticket:
    """Return the ticket in a body. Its time has a zone."""
    return Ticket(body["number"], datetime.fromisoformat(body["answer_by"]))


def product(body: Body) -> Product:
    """Return the product in a body."""
    name = {"zh": body["name_zh"], "en": body["name_en"]}
    features = {"zh": body["features_zh"], "en": body["features_en"]}
    shared = {each: body[each] for each in ("sku", "price", "currency", "stock", "warranty_months")}
    return Product(name=name, features=features, **shared)


def _day(value: str | None) -> date | None:
    return date.fromisoformat(value) if value else None
