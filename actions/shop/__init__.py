"""The only client of the company's order system. In: typed questions. Out: typed answers or `ShopUnavailable`.

To point Kefu at another order system, change this package: `client` has the calls, `answers` what they
give, `reading` how that is read from JSON, `calls` how the network is got over. What a customer may cause
(no such order, a refusal) is a value; an exception means that nobody knows, or that nothing can be done now.
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
