# ruff: noqa: D102 - OrderTask documents the methods that its tasks override
"""Tasks about one order: each is an action that makes one call to the shop, and utters the result.

The order number and the phone's last digits come from the form (actions/forms.py). Each refusal has its own response.
If the shop is down, the action fails, and the customer reads that the task could not be done now.
"""

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from rasa_sdk import Action, Tracker
from rasa_sdk.events import FollowupAction, SlotSet
from rasa_sdk.executor import CollectingDispatcher

from actions import eligibility
from actions.caller import asker, language
from actions.eligibility import Details
from actions.formatting import day, goods, money
from actions.forms import CONFIRMED, LAST_ORDER_NUMBER, Events
from actions.free_text import MAX_TEXT
from actions.idempotency import current_key, effect_key
from actions.numbers import as_text, order_number, phone_last4
from actions.readers import ORDER_NUMBER, PHONE_LAST4
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
# The shop's status of an order to the response in the domain, and to the response's blanks beside the order number.
STATUS = {
    "awaiting_payment": ("utter_order_awaiting_payment", ()),
    "processing": ("utter_order_processing", ()),
    "shipped": ("utter_order_shipped", ("carrier", "tracking_number")),
    "delivered": ("utter_order_delivered", ("delivered_on",)),
    "cancelled": ("utter_order_cancelled", ()),
    "partly_refunded": ("utter_order_partly_refunded", ("refunded", "amount")),
}
MOST_OFFERED = 5  # limits the orders that are offered as buttons; the customer can type the number of another one
PAYMENT_INTENT = "payment_issue"
# The shop's statuses of a payment and of a refund that have a response. Any other status is an error.
PAYMENT = frozenset({"unpaid", "paid", "failed", "charged_twice"})
REFUND = frozenset({"requested", "approved", "paid", "refused"})


class AskOrderNumber(Action):
    """Ask which order a task is about; a known customer can choose by button.

    Orders with goods that the message names come first, then the last order of the conversation, then the newest.
    """

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def name(self) -> str:
        """Return the name in the domain: forms ask for the slot `order_number` by this action."""
        return "action_ask_order_number"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter one response. If the shop is down, it has no buttons, and the customer can still type the number."""
        who, lang = asker(tracker), language(tracker)
        try:
            answer = await self._shop.orders(who) if who.customer else []
            orders = sorted(answer, key=_distance(tracker)) if isinstance(answer, list) else []
        except ShopUnavailable as error:
            logger.warning("orders not offered", extra={"fields": {"reason": error.reason}})
            orders = []
        buttons = [
            {
                "title": f"{order.number} {goods(order, lang)}",
                "payload": f'/inform{{"order_number": "{order.number}"}}',
            }
            for order in orders[:MOST_OFFERED]
        ]
        response = "utter_which_order" if buttons else "utter_ask_for_order_number"
        dispatcher.utter_message(response=response, buttons=buttons)
        return []


def _distance(tracker: Tracker) -> Callable[[Order], tuple[bool, bool]]:
    """Return a sort key that is lowest for orders with goods of the latest message, then for the last order."""
    message = tracker.latest_message
    named = {each["value"] for each in message.get("entities") or [] if each["entity"] == "product"}
    last = tracker.slots.get(LAST_ORDER_NUMBER)

    def far(order: Order) -> tuple[bool, bool]:
        return not any(named & set(item.name.values()) for item in order.items), order.number != last

    return far


class OrderTask(Action):
    """A task about the order in the slots.

    Attributes:
        task: name of the task, in the action (`action_TASK`) and its responses (`utter_TASK_...`).
        slots: slots that the form filled beside those of the order; all are emptied afterwards.
        check: checks whether the task can be done for an order; None for a task that needs no yes.
        refusals: the shop's reasons that have a response, `utter_TASK_refused_REASON`.
        asks_again: the refusals after which the form asks for the yes again.
    """

    task: ClassVar[str]
    slots: ClassVar[tuple[str, ...]] = ()
    check: ClassVar["staticmethod[[Order, str], Details | Refused] | None"] = None
    refusals: ClassVar[frozenset[str]] = frozenset()
    asks_again: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def name(self) -> str:
        """Return the action's name in the domain."""
        return f"action_{self.task}"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Do the task and utter one response. Raises ShopUnavailable or ActionFailed, before anything is uttered."""
        number = order_number(as_text(tracker.slots.get(ORDER_NUMBER)))
        if number is None:
            raise ActionFailed(self.name(), "no order number")
        who = asker(tracker, phone_last4(as_text(tracker.slots.get(PHONE_LAST4))))
        if who.customer is None and who.phone_last4 is None:
            raise ActionFailed(self.name(), "no phone digits of a guest")
        lang = language(tracker)
        outcome = await self._outcome(who, number, tracker, lang)
        response, blanks = self._reply(outcome, lang)
        dispatcher.utter_message(response=response, order_number=number, **blanks)
        if isinstance(outcome, Order):
            await self.after(who, number)
        if isinstance(outcome, Refused) and outcome.reason in self.asks_again:
            return [SlotSet(CONFIRMED, None), FollowupAction(f"{self.task}_form")]
        emptied = [SlotSet(slot, None) for slot in (ORDER_NUMBER, PHONE_LAST4, *self.slots)]
        known = not isinstance(outcome, (NotFound, TooManyAttempts))
        return emptied + ([SlotSet(LAST_ORDER_NUMBER, number)] if known else [])

    async def _outcome(self, who: Asker, number: str, tracker: Tracker, lang: str) -> Any:
        """Return the result of the task's call; None after a no; a refusal if the form's check refused the task."""
        check = type(self).check
        if check is None or tracker.slots.get(CONFIRMED) is True:
            return await self.act(who, number, tracker)
        if tracker.slots.get(CONFIRMED) is False:
            return None
        order = await self.shop.order(who, number)
        # The form didn't ask for a yes, because its check refused the task. The same check gives the reason again.
        return check(order, lang) if isinstance(order, Order) else order

    def _reply(self, outcome: Any, lang: str) -> tuple[str, dict[str, Any]]:
        """Return the response for the outcome, and the values for its blanks."""
        if outcome is None:
            return "utter_left_as_it_is", {}
        if isinstance(outcome, NotFound):
            return "utter_order_not_found", {}
        if isinstance(outcome, TooManyAttempts):
            return "utter_order_attempts_exceeded", {}
        if isinstance(outcome, Refused):
            if outcome.reason not in self.refusals:
                raise ActionFailed(self.name(), "refused for an unknown reason")
            return f"utter_{self.task}_refused_{outcome.reason}", {}
        if isinstance(outcome, dict):
            raise ActionFailed(self.name(), "what could not be done can be done now")
        return self.tell(outcome, lang)

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        """Make the task's call to the shop; return its result."""
        raise NotImplementedError

    def tell(self, result: Any, lang: str) -> tuple[str, dict[str, Any]]:
        """Return the response for the result of `act`, and the values for its blanks."""
        raise NotImplementedError

    async def after(self, who: Asker, number: str) -> None:
        """Run an effect that the reply does not depend on; none by default."""


class TrackOrder(OrderTask):
    """Tell the customer the status of an order, and where it is."""

    task = "track_order"

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.order(who, number)

    def tell(self, order: Order, lang: str) -> tuple[str, dict[str, Any]]:
        if order.status not in STATUS:
            raise ActionFailed(self.name(), "unknown order status")
        response, fields = STATUS[order.status]
        readable = {
            **vars(order),
            "amount": money(order.amount, order.currency, lang),
            "refunded": money(order.refunded, order.currency, lang),
            "carrier": order.carrier[lang] if order.carrier else None,
            "delivered_on": day(order.delivered_on, lang) if order.delivered_on else None,
        }
        blanks = {field: readable[field] for field in fields}
        if None in blanks.values():  # a blank of the response would stay empty
            raise ActionFailed(self.name(), "incomplete order")
        return response, blanks

    async def after(self, who: Asker, number: str) -> None:
        """Record the question for the shop's staff, once per call."""
        key = current_key.get()
        if key is None:  # `rasa shell` gives no key, and without one the shop could count the question twice
            return
        await self.shop.record_inquiry(who.tenant, number, key)


class CancelOrder(OrderTask):
    """Cancel an order after a yes to its fee. If the fee has changed since, the form asks again with the new one."""

    task = "cancel_order"
    check = staticmethod(eligibility.cancellation)
    slots = (CONFIRMED, "about", "fee", "fee_amount")
    refusals = frozenset({"shipped", "delivered", "already_cancelled", "fee_changed"})
    asks_again = frozenset({"fee_changed"})

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.cancel(who, number, effect_key(), tracker.slots.get("fee_amount"))

    def tell(self, result: Any, lang: str) -> tuple[str, dict[str, Any]]:
        fee, refund = (money(amount, result.currency, lang) for amount in (result.fee, result.refund))
        response = "utter_cancel_order_done_unpaid" if float(result.refund) == 0 else "utter_cancel_order_done"
        return response, {"fee": fee, "refund": refund}


class ChangeOrder(OrderTask):
    """Change the quantity of an order's only item, after a yes."""

    task = "change_order"
    check = staticmethod(eligibility.items)
    slots = (CONFIRMED, "about", "new_quantity")
    refusals = frozenset({"not_changeable", "out_of_stock", "no_such_item", "quantity_limit", "several_items"})

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.change_item(who, number, 1, int(tracker.slots["new_quantity"]), effect_key())

    def tell(self, order: Order, lang: str) -> tuple[str, dict[str, Any]]:
        return "utter_change_order_done", {
            "about": goods(order, lang),
            "total": money(order.amount, order.currency, lang),
        }


class ChangeAddress(OrderTask):
    """Change the delivery address of an order, after a yes."""

    task = "change_address"
    check = staticmethod(eligibility.address)
    slots = (CONFIRMED, "about", "new_address")
    refusals = frozenset({"shipped", "delivered", "cancelled", "bad_address"})

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.change_address(who, number, str(tracker.slots["new_address"]), effect_key())

    def tell(self, order: Order, lang: str) -> tuple[str, dict[str, Any]]:
        return "utter_change_address_done", {"new_address": order.address}


class RequestRefund(OrderTask):
    """Request a refund, after the customer's yes."""

    task = "refund"
    check = staticmethod(eligibility.refund)
    slots = (CONFIRMED, "about", "refund_reason", "until")
    refusals = frozenset({"not_paid", "not_delivered", "too_late", "already_requested", "bad_reason"})

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.request_refund(who, number, str(tracker.slots["refund_reason"]), effect_key())

    def tell(self, refund: Any, lang: str) -> tuple[str, dict[str, Any]]:
        return "utter_refund_done", _refund_blanks(refund, lang)


class TrackRefund(OrderTask):
    """Tell the customer the status of an order's newest refund."""

    task = "track_refund"

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.refunds(who, number)

    def tell(self, refunds: Any, lang: str) -> tuple[str, dict[str, Any]]:
        if not refunds:
            return "utter_track_refund_none", {}
        newest = refunds[0]
        if newest.status not in REFUND:
            raise ActionFailed(self.name(), "unknown state of a refund")
        return f"utter_track_refund_{newest.status}", _refund_blanks(newest, lang)


class RequestInvoice(OrderTask):
    """Request an invoice with a title, after a yes. Until it is issued, a new request changes the title."""

    task = "invoice"
    check = staticmethod(eligibility.invoice)
    slots = (CONFIRMED, "about", "invoice_title")
    refusals = frozenset({"not_paid", "already_issued", "cancelled", "bad_title"})

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.request_invoice(who, number, str(tracker.slots["invoice_title"]), effect_key())

    def tell(self, invoice: Any, lang: str) -> tuple[str, dict[str, Any]]:
        return "utter_invoice_done", {"invoice_title": invoice.title, "sent_to": invoice.sent_to}


class CheckInvoice(OrderTask):
    """Tell the customer whether the invoice of an order was issued."""

    task = "check_invoice"

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        return await self.shop.order(who, number)

    def tell(self, order: Order, lang: str) -> tuple[str, dict[str, Any]]:
        if order.invoice not in ("none", "requested", "issued"):
            raise ActionFailed(self.name(), "unknown state of an invoice")
        return f"utter_check_invoice_{order.invoice}", {}


class CheckPayment(OrderTask):
    """Tell the status of an order's payment. A double charge opens a ticket for the shop's staff."""

    task = "payment"

    async def act(self, who: Asker, number: str, tracker: Tracker) -> Any:
        order = await self.shop.order(who, number)
        if isinstance(order, Order) and order.payment.status == "charged_twice":
            user = Asker(who.tenant, who.customer, who.guest or "guest")
            words = f"charged twice: {_opening(tracker)}"
            ticket = await self.shop.open_ticket(user, "payment", words, effect_key(), order=number)
            return order, ticket
        return order

    def tell(self, result: Any, lang: str) -> tuple[str, dict[str, Any]]:
        order, ticket = result if isinstance(result, tuple) else (result, None)
        paid = order.payment.status
        if paid not in PAYMENT or isinstance(ticket, (Refused, NotFound)):
            raise ActionFailed(self.name(), "unknown state of a payment")
        if ticket:
            return "utter_payment_charged_twice", {"ticket": ticket.number}
        if order.status == "cancelled":
            return f"utter_payment_cancelled{'_paid' if paid == 'paid' else ''}", {}
        return f"utter_payment_{paid}", {"total": money(order.amount, order.currency, lang)}


def _opening(tracker: Tracker) -> str:
    """Return the text of the message that began the task. The latest message may be only the order number."""
    messages = [event for event in tracker.events if event["event"] == "user"]
    about = [
        each for each in messages if ((each.get("parse_data") or {}).get("intent") or {}).get("name") == PAYMENT_INTENT
    ]
    return ((about or messages or [{}])[-1].get("text") or "")[:MAX_TEXT]


def _refund_blanks(refund: Any, lang: str) -> dict[str, Any]:
    days = {"expected_on": refund.expected_on, "paid_on": refund.paid_on}
    return {
        "refund_number": refund.number,
        "refund": money(refund.amount, refund.currency, lang),
        **{name: day(value, lang) for name, value in days.items() if value},
    }


def order_tasks(shop: Shop) -> list[Action]:
    """Return every task about an order, and the action that asks for the order number."""
    kinds = (TrackOrder, CancelOrder, ChangeOrder, ChangeAddress, RequestRefund, TrackRefund)
    return [kind(shop) for kind in (*kinds, RequestInvoice, CheckInvoice, CheckPayment, AskOrderNumber)]
