"""Where is my order: asks for what identifies the order, then tells its state as the shop knows it."""

import logging
import re
import unicodedata
from datetime import date
from typing import Any

from rasa_sdk import Action, FormValidationAction, Tracker
from rasa_sdk.events import SlotSet
from rasa_sdk.executor import CollectingDispatcher
from rasa_sdk.forms import REQUESTED_SLOT

from actions.backend import Found, Order, Shop, ShopUnavailable, TooManyAttempts
from actions.caller import caller, language
from actions.idempotency import current_key
from kefu.errors import ActionFailed

ORDER_NUMBER = "order_number"
PHONE_LAST4 = "phone_last4"
LAST_ORDER_NUMBER = "last_order_number"
# By the shop's status: the response in the domain, and what it tells beside the number.
RESPONSES = {
    "awaiting_payment": ("utter_order_awaiting_payment", ()),
    "processing": ("utter_order_processing", ()),
    "shipped": ("utter_order_shipped", ("carrier", "tracking_number")),
    "delivered": ("utter_order_delivered", ("delivered_on",)),
    "cancelled": ("utter_order_cancelled", ()),
    "partly_refunded": ("utter_order_partly_refunded", ("refunded", "amount", "currency")),
}
MIN_PHONE_DIGITS = 10  # shorter runs of digits are order numbers or slips

_PLAIN_NUMBER = re.compile(r"(?<!\d)\d{8}(?!\d)")
_SPACED_DIGITS = re.compile(r"\d(?:[ -]?\d)*")
_MASKED_PHONE = re.compile(r"\*{2,} ?(\d{4})(?!\d)")

logger = logging.getLogger(__name__)
Events = list[dict[str, Any]]


def order_number(text: str) -> str | None:
    """Return the first order number in a text, eight digits in whatever width and spacing, or None."""
    narrow = unicodedata.normalize("NFKC", text)
    plain = _PLAIN_NUMBER.search(narrow)
    if plain:
        return plain.group()
    return next((run for run in _digit_runs(narrow) if len(run) == 8), None)


def phone_last4(text: str) -> str | None:
    """Return the last four digits of a phone number given as such, masked, or in full; else None."""
    narrow = _PLAIN_NUMBER.sub(" / ", unicodedata.normalize("NFKC", text))
    masked = _MASKED_PHONE.search(narrow)
    if masked:
        return masked.group(1)
    return next((run[-4:] for run in _digit_runs(narrow) if len(run) == 4 or len(run) >= MIN_PHONE_DIGITS), None)


# An entity fills a slot before the form has looked at it: only what can be read counts as given.
READERS = {ORDER_NUMBER: order_number, PHONE_LAST4: phone_last4}


def _digit_runs(text: str) -> list[str]:
    return [re.sub(r"\D", "", run) for run in _SPACED_DIGITS.findall(text)]


def day(value: date, lang: str) -> str:
    """Return a date as people write it in that language."""
    if lang == "en":
        return f"{value.day} {value:%B %Y}"
    return f"{value.year}年{value.month}月{value.day}日"


class ActionTrackOrder(Action):
    """Tell the state of the order in the slots; a shop that is away makes the action fail."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def name(self) -> str:
        """Return the name in the domain."""
        return "action_track_order"

    async def run(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]) -> Events:
        """Utter one response. Raises ShopUnavailable, ActionFailed: then nothing is said."""
        number = order_number(str(tracker.slots.get(ORDER_NUMBER) or ""))
        if number is None:
            raise ActionFailed(self.name(), "no order number")
        found = await self._look_up(tracker, number)
        if isinstance(found, Order):
            _tell(dispatcher, found, language(tracker))
            await self._note(caller(tracker).tenant, number)
        elif isinstance(found, TooManyAttempts):
            dispatcher.utter_message(response="utter_order_attempts_exceeded", order_number=number)
        else:
            dispatcher.utter_message(response="utter_order_not_found", order_number=number)
        events = [SlotSet(ORDER_NUMBER, None), SlotSet(PHONE_LAST4, None)]
        return events + ([SlotSet(LAST_ORDER_NUMBER, number)] if isinstance(found, Order) else [])

    async def _look_up(self, tracker: Tracker, number: str) -> Found:
        who = caller(tracker)
        if who.customer is not None:
            return await self._shop.own_order(who.tenant, who.customer, number)
        last4 = phone_last4(str(tracker.slots.get(PHONE_LAST4) or ""))
        if last4 is None:
            raise ActionFailed(self.name(), "no phone digits of a guest")
        return await self._shop.guest_order(who.tenant, number, last4)

    async def _note(self, tenant: str, number: str) -> None:
        key = current_key.get()
        if key is None:  # `rasa shell`: without a key it could be counted twice
            return
        try:
            await self._shop.record_inquiry(tenant, number, key)
        except ShopUnavailable as error:
            # The answer is true whether or not the shop could count the question.
            logger.warning("inquiry not recorded", extra={"fields": {"reason": error.reason}})


def _tell(dispatcher: CollectingDispatcher, order: Order, lang: str) -> None:
    if order.status not in RESPONSES:
        raise ActionFailed("action_track_order", "unknown order status")
    response, fields = RESPONSES[order.status]
    readable = {
        **vars(order),
        "carrier": order.carrier[lang] if order.carrier else None,
        "delivered_on": day(order.delivered_on, lang) if order.delivered_on else None,
    }
    told = {field: readable[field] for field in fields}
    if None in told.values():  # a reply with a hole in it would be no answer
        raise ActionFailed("action_track_order", "incomplete order")
    dispatcher.utter_message(response=response, order_number=order.number, **told)


class ValidateTrackOrderForm(FormValidationAction):
    """Check what the form collected. Needs neither the domain nor the shop, so a turn of it is cheap."""

    def name(self) -> str:
        """Return the name in the domain."""
        return "validate_track_order_form"

    def domain_slots(self, domain: dict[str, Any]) -> list[str]:
        """Return the form's slots, known here so that a call need not carry the domain."""
        return [ORDER_NUMBER, PHONE_LAST4]

    async def required_slots(
        self, domain_slots: list[str], dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> list[str]:
        """Return the slots to ask for: the token has told who a customer is, a guest must show it."""
        return [ORDER_NUMBER] if caller(tracker).customer is not None else [ORDER_NUMBER, PHONE_LAST4]

    async def next_requested_slot(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: dict[str, Any]
    ) -> dict[str, Any]:
        """Name the next slot always: where nothing is named, Rasa's form makes a second call to ask."""
        required = await self.required_slots([], dispatcher, tracker, domain)
        missing = (slot for slot in required if READERS[slot](_text(tracker.slots.get(slot))) is None)
        return SlotSet(REQUESTED_SLOT, next(missing, None))

    def extract_order_number(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: Any) -> dict[str, Any]:
        """Take the asked number from the text where NLU found no entity."""
        return _from_text(tracker, ORDER_NUMBER)

    def extract_phone_last4(self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: Any) -> dict[str, Any]:
        """Take the asked digits from the text where NLU found no entity."""
        return _from_text(tracker, PHONE_LAST4)

    def validate_order_number(
        self, value: Any, dispatcher: CollectingDispatcher, tracker: Tracker, domain: Any
    ) -> dict[str, Any]:
        """Keep eight digits, or say that it is no order number."""
        number = order_number(_text(value))
        if number is None and value is not None:
            dispatcher.utter_message(response="utter_invalid_order_number")
        return {ORDER_NUMBER: number}

    def validate_phone_last4(
        self, value: Any, dispatcher: CollectingDispatcher, tracker: Tracker, domain: Any
    ) -> dict[str, Any]:
        """Keep four digits, or say that they are missing."""
        last4 = phone_last4(_text(value))
        if last4 is None and value is not None:
            dispatcher.utter_message(response="utter_invalid_phone_last4")
        return {PHONE_LAST4: last4}


def _from_text(tracker: Tracker, slot: str) -> dict[str, Any]:
    """Return the text for the slot that was asked for; {} for one without a digit: that is another topic."""
    if tracker.slots.get(REQUESTED_SLOT) != slot or tracker.slots_to_validate().get(slot) is not None:
        return {}
    text = tracker.latest_message.get("text") or ""
    return {slot: text} if any(character.isdigit() for character in text) else {}


def _text(value: Any) -> str:
    # NLU gives a list where it found several entities.
    return " / ".join(map(str, value)) if isinstance(value, list) else str(value or "")
