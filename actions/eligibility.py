"""Checks whether a task can be done for an order. In: an order. Out: slots for the form's questions, or a refusal.

The shop decides again when the task is done. A check here spares the customer questions about an impossible task. The
docstring of a check lists the reasons for which it refuses the task.
"""

from collections.abc import Callable
from typing import Any

from actions.formatting import day, goods, money
from actions.shop import Order, Refused

Details = dict[str, Any]  # slots of the domain that fill the blanks of a form's questions
EligibilityCheck = Callable[[Order, str], Details | Refused]
_SENT = {"shipped": "shipped", "delivered": "delivered", "partly_refunded": "delivered"}


def exists(order: Order, lang: str) -> Details | Refused:
    """Never refused, because the task only needs an order that exists."""
    return {}


def cancellation(order: Order, lang: str) -> Details | Refused:
    """Check that an order can be cancelled. Refused: shipped, delivered, already_cancelled."""
    if not order.cancellable:
        return Refused({**_SENT, "cancelled": "already_cancelled"}.get(order.status, "shipped"))
    fee = order.cancellation_fee or "0.00"
    return {"about": goods(order, lang), "fee": money(fee, order.currency, lang), "fee_amount": fee}


def items(order: Order, lang: str) -> Details | Refused:
    """Check that an order's items can be changed. Refused: not_changeable, several_items.

    Only a person can change an order of several items, because the form can't ask which item.
    """
    if not order.items_changeable:
        return Refused("not_changeable")
    return {"about": goods(order, lang)} if len(order.items) == 1 else Refused("several_items")


def address(order: Order, lang: str) -> Details | Refused:
    """Check that an order's address can be changed. Refused: shipped, delivered, cancelled."""
    if not order.address_changeable:
        return Refused({**_SENT, "cancelled": "cancelled"}.get(order.status, "shipped"))
    return {"about": order.address}


def refund(order: Order, lang: str) -> Details | Refused:
    """Check that a refund can be requested. Refused: not_paid, not_delivered, too_late, already_requested."""
    if order.refundable.until is None:
        return Refused(order.refundable.reason or "not_delivered")
    return {"about": goods(order, lang), "until": day(order.refundable.until, lang)}


def invoice(order: Order, lang: str) -> Details | Refused:
    """Check that an invoice can be requested. Refused: not_paid, already_issued, cancelled.

    If one is requested already, the task is allowed, because the invoice's title can still be changed.
    """
    if order.status == "cancelled":
        return Refused("cancelled")
    if order.invoice == "issued":
        return Refused("already_issued")
    return Refused("not_paid") if order.payment.status in ("unpaid", "failed") else {"about": goods(order, lang)}
