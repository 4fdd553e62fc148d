# ruff: noqa: D102 - OrderTask tells what its tasks override
"""Tasks about one order: each does one thing at the shop, and tells what the shop says has happened.

The order and the end of the phone come from the form (actions/forms.py). A refusal is told as what it is; a
shop that is away makes the action fail, and the customer hears that it could not be done now.
"""

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from rasa_sdk import Action, Tracker
from rasa_sdk.events import FollowupAction, SlotSet
from rasa_sdk.executor import CollectingDispatcher

from actions import looks
from actions.caller import asker, language
from actions.forms import CONFIRMED, LAST_ORDER_NUMBER, Events
from actions.free_text import MAX_TEXT
from actions.idempotency import current_key, effect_key
from actions.looks import Details, money
from actions.readers import ORDER_NUMBER, PHONE_LAST4
from actions.reading import as_text, day, order_number, phone_last4
from actions.shop import (
    Asker,
    NotFound,
    Order,
    Refused,
    Shop,
    ShopUnavailable,
    TooManyAttempts,
)
from kefu.errors import ActionFailed

logger = logging.getLogger(__name__)
# By the shop's status: the response in the domain, and what it tells beside the number.
STATUS = {
    "awaiting_payment": ("utter_order_awaiting_payment", ()),
    "processing": ("utter_order_processing", ()),
    "shipped": ("utter_order_shipped", ("carrier", "tracking_number")),
    "delivered": ("utter_order_delivered", ("delivered_on",)),
    "cancelled": ("utter_order_cancelled", ()),
    "partly_refunded": ("utter_order_partly_refunded", ("refunded", "amount")),
}
MOST_OFFERED = 5  # orders as buttons
PAYMENT_INTENT = "payment_issue"
PAYMENT = frozenset({"unpaid", "paid", "failed", "charged_twice"})
REFUND = frozenset({"requested", "approved", "paid", "refused"})


class AskOrderNumber(Action):
    """Ask which order a task is about; a known customer chooses.

    First come orders of goods that the message names, then the one last talked about, then the newest.
    """

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def name(self) -> str:
        """Return the name in the domain: forms ask by it."""
        return "action_ask_order_number"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter one response. A shop that is away only leaves the buttons out: the number can be typed."""
        who, lang = asker(tracker), language(tracker)
        try:
            found = await self._shop.orders(who) if who.customer else []
            orders = sorted(found, key=_nearness(tracker)) if isinstance(found, list) else []
        except ShopUnavailable as error:
            logger.warning("orders not offered", extra={"fields": {"reason": error.reason}})
            orders = []
        buttons = [
            {
                "title": f"{order.number} {looks.goods(order, lang)}",
                "payload": f'/inform{{"order_number": "{order.number}"}}',
            }
            for order in orders[:MOST_OFFERED]
        ]
        response = "utter_which_order" if buttons else "utter_ask_for_order_number"
        dispatcher.utter_message(response=response, buttons=buttons)
        return []


def _nearness(tracker: Tracker) -> Callable[[Order], tuple[bool, bool]]:
    message = tracker.latest_message
    named = {each["value"] for each in message.get("entities") or [] if each["entity"] == "product"}
    last = tracker.slots.get(LAST_ORDER_NUMBER)

    def far(order: Order) -> tuple[bool, bool]:
        return not any(named & set(item.name.values()) for item in order.items), order.number != last

    return far


class OrderTask(Action):
    """A task about the order in the slots.

    Attributes:
        task: names the action (`action_TASK`) and its responses (`utter_TASK_...`).
        slots: that the form collected beside the order's; forgotten afterwards, as the order's are.
        look: whether it can be done, where the form asks for a yes.
        refusals: reasons of the shop that have a response, `utter_TASK_refused_REASON`.
        asks_again: those of them after which the form asks for the yes again.
    """

    task: ClassVar[str]
    slots: ClassVar[tuple[str, ...]] = ()
    look: ClassVar["staticmethod[[Order, str], Details | Refused] | None"] = None
    refusals: ClassVar[frozenset[str]] = frozenset()
    asks_again: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def name(self) -> str:
        """Return the name in the domain."""
        return f"action_{self.task}"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter one response. Raises ShopUnavailable, ActionFailed: then nothing is said."""
        number = order_number(as_text(tracker.slots.get(ORDER_NUMBER)))
        if number is None:
            raise ActionFailed(self.name(), "no order number")
        who = asker(tracker, phone_last4(as_text(tracker.slots.get(PHONE_LAST4))))
        if who.customer is None and who.phone_last4 is None:
            raise ActionFailed(self.name(), "no phone digits of a guest")
        lang = language(tracker)
        found = await self._outcome(who, number, tracker, lang)
        response, blanks = self._told(found, lang)
        dispatcher.utter_message(response=response, order_number=number, **blanks)
        if isinstance(found, Order):
            await self.after(who, number)
        if isinstance(found, Refused) and found.reason in self.asks_again:
            return [SlotSet(CONFIRMED, None), FollowupAction(f"{self.task}_form")]
        forgotten = [SlotSet(slot, None) for slot in (ORDER_NUMBER, PHONE_LAST4, *self.slots)]
        known = not isinstance(found, (NotFound, TooManyAttempts))
        return forgotten + ([SlotSet(LAST_ORDER_NUMBER, number)] if known else [])

    async def _outcome(self, who: Asker, number: str, tracker: Tracker, lang: str) -> Any:
        look = type(self).look
        if look is None or tracker.slots.get(CONFIRMED) is True:
            return await self.act(who, number, tracker)
        if tracker.slots.get(CONFIRMED) is False:
            return None
        order = await self.shop.order(who, number)
        # Nobody was asked for a yes: the form found that it can't be done. What can't be said by now failed.
        return look(order, lang) if isinstance(order, Order) else order

    def _told(self, found: Any, lang: str) -> tuple[str, dict[str, Any]]:
        """Return the response that tells the outcome, and what fills its blanks."""
        if found is None:
            return "utter_left_as_it_is", {}
        if isinstance(found, NotFound):
            return "utter_order_not_found", {}
        if isinstance(found, TooManyAttempts):
            return "utter_order_attempts_exceeded", {}
        if isinstance(found, Refused):
            if found.reason not in self.refusals:
                raise ActionFailed(self.name(), "refused for an unknown reason")
            return f"utter_{self.task}_refused_{found.reason}", {}
        if isinstance(found, dict):
            raise ActionFailed(self.name(), "what could not be done can be done now")
        return self.tell(found, lang)

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        """Do it; return what the shop says."""
        raise NotImplementedError

    def tell(self, found: Any, lang: str) -> tuple[str, dict[str, Any]]:
        """Return the response for what was done, and its blanks."""
        raise NotImplementedError

    async def after(self, who: Asker, number: str) -> None:
        """Do what the answer does not depend on."""


class TrackOrder(OrderTask):
    """Tell where an order is."""

    task = "track_order"

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.order(who, number)

    def tell(self, found: Order, lang: str) -> tuple[str, dict[str, Any]]:
        if found.status not in STATUS:
            raise ActionFailed(self.name(), "unknown order status")
        response, fields = STATUS[found.status]
        readable = {
            **vars(found),
            "amount": money(found.amount, found.currency, lang),
            "refunded": money(found.refunded, found.currency, lang),
            "carrier": found.carrier[lang] if found.carrier else None,
            "delivered_on": day(found.delivered_on, lang) if found.delivered_on else None,
        }
        told = {field: readable[field] for field in fields}
        if None in told.values():  # a reply with a hole in it would be no answer
            raise ActionFailed(self.name(), "incomplete order")
        return response, told

    async def after(self, who: Asker, number: str) -> None:
        """Let the shop's staff see that the order was asked about, once."""
        key = current_key.get()
        if key is None:  # `rasa shell`: without a key it could be counted twice
            return
        await self.shop.record_inquiry(who.tenant, number, key)


class CancelOrder(OrderTask):
    """Cancel an order after a yes, which is to the fee that was named: for another one it is asked for again."""

    task = "cancel_order"
    look = staticmethod(looks.cancellation)
    slots = (CONFIRMED, "about", "fee", "fee_amount")
    refusals = frozenset({"shipped", "delivered", "already_cancelled", "fee_changed"})
    asks_again = frozenset({"fee_changed"})

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.cancel(who, number, effect_key(), tracker.slots.get("fee_amount"))

    def tell(self, found: Any, lang: str) -> tuple[str, dict[str, Any]]:
        told = {"fee": money(found.fee, found.currency, lang), "refund": money(found.refund, found.currency, lang)}
        return ("utter_cancel_order_done_unpaid" if float(found.refund) == 0 else "utter_cancel_order_done"), told


class ChangeOrder(OrderTask):
    """Change how many pieces are ordered, after a yes."""

    task = "change_order"
    look = staticmethod(looks.items)
    slots = (CONFIRMED, "about", "new_quantity")
    refusals = frozenset({"not_changeable", "out_of_stock", "no_such_item", "quantity_limit", "several_items"})

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.change_item(who, number, 1, int(tracker.slots["new_quantity"]), effect_key())

    def tell(self, found: Order, lang: str) -> tuple[str, dict[str, Any]]:
        return "utter_change_order_done", {
            "about": looks.goods(found, lang),
            "total": money(found.amount, found.currency, lang),
        }


class ChangeAddress(OrderTask):
    """Send an order elsewhere, after a yes."""

    task = "change_address"
    look = staticmethod(looks.address)
    slots = (CONFIRMED, "about", "new_address")
    refusals = frozenset({"shipped", "delivered", "cancelled", "bad_address"})

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.change_address(who, number, str(tracker.slots["new_address"]), effect_key())

    def tell(self, found: Order, lang: str) -> tuple[str, dict[str, Any]]:
        return "utter_change_address_done", {"new_address": found.address}


class RequestRefund(OrderTask):
    """Ask for the money back, after a yes."""

    task = "refund"
    look = staticmethod(looks.refund)
    slots = (CONFIRMED, "about", "refund_reason", "until")
    refusals = frozenset({"not_paid", "not_delivered", "too_late", "already_requested", "bad_reason"})

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.request_refund(who, number, str(tracker.slots["refund_reason"]), effect_key())

    def tell(self, found: Any, lang: str) -> tuple[str, dict[str, Any]]:
        return "utter_refund_done", _of_refund(found, lang)


class TrackRefund(OrderTask):
    """Tell how far the newest refund of an order is."""

    task = "track_refund"

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.refunds(who, number)

    def tell(self, found: Any, lang: str) -> tuple[str, dict[str, Any]]:
        if not found:
            return "utter_track_refund_none", {}
        newest = found[0]
        if newest.status not in REFUND:
            raise ActionFailed(self.name(), "unknown state of a refund")
        return f"utter_track_refund_{newest.status}", _of_refund(newest, lang)


class RequestInvoice(OrderTask):
    """Have an invoice issued in a name, after a yes; before it is issued, asking again changes the name."""

    task = "invoice"
    look = staticmethod(looks.invoice)
    slots = (CONFIRMED, "about", "invoice_title")
    refusals = frozenset({"not_paid", "already_issued", "cancelled", "bad_title"})

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.request_invoice(who, number, str(tracker.slots["invoice_title"]), effect_key())

    def tell(self, found: Any, lang: str) -> tuple[str, dict[str, Any]]:
        return "utter_invoice_done", {"invoice_title": found.title, "sent_to": found.sent_to}


class CheckInvoice(OrderTask):
    """Tell whether an invoice was issued."""

    task = "check_invoice"

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.order(who, number)

    def tell(self, found: Order, lang: str) -> tuple[str, dict[str, Any]]:
        if found.invoice not in ("none", "requested", "issued"):
            raise ActionFailed(self.name(), "unknown state of an invoice")
        return f"utter_check_invoice_{found.invoice}", {}


class CheckPayment(OrderTask):
    """Tell what the shop knows of an order's payment; where it took too much, somebody of its staff looks after it."""

    task = "payment"

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        found = await self.shop.order(who, number)
        if isinstance(found, Order) and found.payment.status == "charged_twice":
            user = Asker(who.tenant, who.customer, who.guest or "guest")
            words = f"charged twice: {_opening(tracker)}"
            ticket = await self.shop.open_ticket(user, "payment", words, effect_key(), order=number)
            return found, ticket
        return found

    def tell(self, found: Any, lang: str) -> tuple[str, dict[str, Any]]:
        order, ticket = found if isinstance(found, tuple) else (found, None)
        paid = order.payment.status
        if paid not in PAYMENT or isinstance(ticket, (Refused, NotFound)):
            raise ActionFailed(self.name(), "unknown state of a payment")
        if ticket:
            return "utter_payment_charged_twice", {"ticket": ticket.number}
        if order.status == "cancelled":
            return f"utter_payment_cancelled{'_paid' if paid == 'paid' else ''}", {}
        return f"utter_payment_{paid}", {"total": money(order.amount, order.currency, lang)}


def _opening(tracker: Tracker) -> str:
    """Return the words that the customer came with: the latest message may be the order's number alone."""
    said = [event for event in tracker.events if event["event"] == "user"]
    about = [
        each for each in said if ((each.get("parse_data") or {}).get("intent") or {}).get("name") == PAYMENT_INTENT
    ]
    return ((about or said or [{}])[-1].get("text") or "")[:MAX_TEXT]


def _of_refund(found: Any, lang: str) -> dict[str, Any]:
    days = {"expected_on": found.expected_on, "paid_on": found.paid_on}
    return {
        "refund_number": found.number,
        "refund": money(found.amount, found.currency, lang),
        **{name: day(value, lang) for name, value in days.items() if value},
    }


def order_tasks(shop: Shop) -> list[Action]:
    """Return every task about an order, and the question which one."""
    kinds = (TrackOrder, CancelOrder, ChangeOrder, ChangeAddress, RequestRefund, TrackRefund)
    return [kind(shop) for kind in (*kinds, RequestInvoice, CheckInvoice, CheckPayment, AskOrderNumber)]
