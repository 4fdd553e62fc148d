"""The only client of the company's order system. In: typed calls. Out: typed answers or `ShopUnavailable`.

To connect Kefu to another order system, change this package: `client` has the calls, `answers` their types, `parsing`
reads these from JSON, `calls` has timeouts and retries, `background` runs effects that no reply waits for. An outcome
that a customer can cause (no such order, a refusal) is a value. An exception means that the outcome is unknown, or
that nothing can be done now.
"""

from actions.shop.answers import (
    Account,
    Address,
    Asker,
    Cancellation,
    Deletion,
    Invoice,
    Item,
    NotFound,
    Order,
    Payment,
    Policies,
    Product,
    Refund,
    Refundable,
    Refused,
    Ticket,
    TooManyAttempts,
)
from actions.shop.calls import MAX_CONNECTIONS, ShopUnavailable
from actions.shop.client import Shop

__all__ = [
    "MAX_CONNECTIONS",
    "Account",
    "Address",
    "Asker",
    "Cancellation",
    "Deletion",
    "Invoice",
    "Item",
    "NotFound",
    "Order",
    "Payment",
    "Policies",
    "Product",
    "Refund",
    "Refundable",
    "Refused",
    "Shop",
    "ShopUnavailable",
    "Ticket",
    "TooManyAttempts",
]
