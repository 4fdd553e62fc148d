"""Reads order numbers and the last digits of phone numbers from customers' texts."""

import re
import unicodedata
from typing import Any

MIN_PHONE_DIGITS = 10  # from this many digits on a run of digits is a phone number; a shorter run has to be 4 digits

_PLAIN_NUMBER = re.compile(r"(?<!\d)\d{8}(?!\d)")
_SPACED_DIGITS = re.compile(r"\d(?:[ -]?\d)*")
_MASKED_PHONE = re.compile(r"\*{2,} ?(\d{4})(?!\d)")


def order_number(text: str) -> str | None:
    """Return the last order number in a text, in any width and spacing, or None.

    It is the last one, because a customer's correction comes after the wrong number.
    """
    narrow = unicodedata.normalize("NFKC", text)
    plain = _PLAIN_NUMBER.findall(narrow)
    if plain:
        return plain[-1]
    return next((run for run in _digit_runs(narrow) if len(run) == 8), None)


def phone_last4(text: str) -> str | None:
    """Return the last four digits of a phone number, or None. They may stand alone, be masked, or end the number."""
    narrow = _PLAIN_NUMBER.sub(" / ", unicodedata.normalize("NFKC", text))
    masked = _MASKED_PHONE.search(narrow)
    if masked:
        return masked.group(1)
    return next((run[-4:] for run in _digit_runs(narrow) if len(run) == 4 or len(run) >= MIN_PHONE_DIGITS), None)


def as_text(value: Any) -> str:
    """Return a slot's value as text. The value is a list if NLU found several entities for the slot."""
    return " / ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _digit_runs(text: str) -> list[str]:
    return [re.sub(r"\D", "", run) for run in _SPACED_DIGITS.findall(text)]
