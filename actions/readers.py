"""How each slot that a form asks for is read from what a customer says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actions import callbacks, free_text, newsletter, quantity
from actions.callbacks import CALLBACK_TIME
from actions.heard import Entities
from actions.reading import order_number, phone_last4

ORDER_NUMBER = "order_number"
PHONE_LAST4 = "phone_last4"
NUMBERS = (ORDER_NUMBER, PHONE_LAST4)  # NLU finds them wherever they are


@dataclass(frozen=True)
class Reader:
    """How a slot is read from words.

    Attributes:
        read: gives None for what can't be it.
        tried: whether an answer was meant to be it.
        is_free: whether it is told in the customer's own words.
        entities: whose values, that NLU found, are read before the words.
        named: reads it from a message that says more, the first one or a correction; None where it isn't named.
    """

    read: Callable[[str], Any]
    tried: Callable[[str], bool]
    is_free: bool = False
    entities: frozenset[str] = frozenset()
    named: Callable[[str], Any] = lambda _: None


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)


def _free(read: Callable[[str], Any], named: Callable[[str], Any] = lambda _: None) -> Reader:
    return Reader(read, lambda text: bool(text.strip()), is_free=True, named=named)


READERS = {
    ORDER_NUMBER: Reader(order_number, _has_digit),
    PHONE_LAST4: Reader(phone_last4, _has_digit),
    "new_quantity": Reader(quantity.quantity, quantity.names_number, named=quantity.target),
    "new_address": _free(free_text.address, named=free_text.named_address),
    "refund_reason": _free(free_text.reason, named=free_text.named_reason),
    "complaint_text": _free(free_text.reason),
    "invoice_title": _free(free_text.title, named=free_text.named_title),
    "account_name": _free(free_text.name),
    "wants_newsletter": Reader(newsletter.subscribes, lambda _: False, named=newsletter.subscribes),
    CALLBACK_TIME: Reader(callbacks.when, lambda _: True, entities=frozenset({"date", "time"})),
}


def named(slot: str, entities: Entities) -> list[str]:
    """Return the values that a message names for a number; four digits beside an order's number end a phone's."""
    found = [each["value"] for each in entities if each["entity"] == slot]
    if not found and slot == PHONE_LAST4:
        found = [each["value"] for each in entities if each["entity"] == "number" and len(str(each["value"])) == 4]
    return found
