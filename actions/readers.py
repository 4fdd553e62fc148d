"""The readers of the slots that forms ask for. In: a customer's words. Out: the slot's value, or None."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from actions import callbacks, free_text, newsletter, quantity
from actions.callbacks import CALLBACK_TIME
from actions.latest_message import Entities
from actions.numbers import order_number, phone_last4

ORDER_NUMBER = "order_number"
PHONE_LAST4 = "phone_last4"
NUMBERS = (ORDER_NUMBER, PHONE_LAST4)  # NLU finds them anywhere in a message


@dataclass(frozen=True)
class Reader:
    """Functions that read one slot from words.

    Attributes:
        read: reads the value from an answer; None if it can't.
        tried: whether an answer is meant as a value of this slot.
        is_free: whether the customer gives the value in their own words.
        entities: entities whose values are read before the words.
        named: reads the value from a longer message, such as the first one or a correction; None without a value.
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
    """Return the values of a message's entities for a number slot.

    Any four-digit number counts as the last digits of a phone number.
    """
    values = [each["value"] for each in entities if each["entity"] == slot]
    if not values and slot == PHONE_LAST4:
        values = [each["value"] for each in entities if each["entity"] == "number" and len(str(each["value"])) == 4]
    return values
