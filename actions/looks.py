"""What an order allows, before anything is done: the words for the question that asks for a yes, or the refusal.

The shop decides again when it is told to act; a look only spares the customer questions that lead nowhere.
"""

from collections.abc import Callable
from typing import Any

from actions.reading import day
from actions.shop import Order, Refused

Details = dict[str, Any]  # slots of the domain, for the blanks of questions
Look = Callable[[Order, str], Details | Refused]
_SENT = {"shipped": "shipped", "delivered": "delivered", "partly_refunded": "delivered"}


def goods(order: Order, lang: str) -> str:
    """Return what was ordered, in words."""
    return ("，" if lang == "zh" else ", ").join(f"{item.name[lang]} × {item.quantity}" for item in order.items)


def exists(order: Order, lang: str) -> Details | Refused:
    """Never refused: it is enough that the order is there."""
    return {}


def cancellation(order: Order, lang: str) -> Details | Refused:
    """Refused: shipped, delivered, already_cancelled."""
    if not order.cancellable:
        return Refused({**_SENT, "cancelled": "already_cancelled"}.get(order.status, "shipped"))
    fee = order.cancellation_fee or "0.00"
    return {"about": goods(order, lang), "fee": money(fee, order.currency, lang), "fee_amount": fee}


def items(order: Order, lang: str) -> Details | Refused:
    """Refused: not_changeable, several_items (which nobody can name in one word: a person does that)."""
    if not order.items_changeable:
        return Refused("not_changeable")
    return {"about": goods(order, lang)} if len(order.items) == 1 else Refused("several_items")


def address(order: Order, lang: str) -> Details | Refused:
    """Refused: shipped, delivered, cancelled."""
    if not order.address_changeable:
        return Refused({**_SENT, "cancelled": "cancelled"}.get(order.status, "shipped"))
    return {"about": order.address}


def refund(order: Order, lang: str) -> Details | Refused:
    """Refused: not_paid, not_delivered, too_late, already_requested."""
    if order.refundable.until is None:
        return Refused(order.refundable.reason or "not_delivered")
    return {"about": goods(order, lang), "until": day(order.refundable.until, lang)}


def invoice(order: Order, lang: str) -> Details | Refused:
    """Refused: not_paid, already_issued, cancelled. Until it is issued, its name can be changed."""
    if order.status == "cancelled":
        return Refused("cancelled")
    if order.invoice == "issued":
        return Refused("already_issued")
    return Refused("not_paid") if order.payment.status in ("unpaid", "failed") else {"about": goods(order, lang)}


def money(amount: str, currency: str, lang: str) -> str:
    """Return an amount as people write it in that language."""
    return f"{amount} 元" if lang == "zh" and currency == "CNY" else f"{amount} {currency}"
