"""What customers type, read: order numbers, ends of phone numbers; and what they are told, written as people do."""

import re
import unicodedata
from datetime import date
from typing import Any

MIN_PHONE_DIGITS = 10  # shorter runs of digits are order numbers or slips

_PLAIN_NUMBER = re.compile(r"(?<!\d)\d{8}(?!\d)")
_SPACED_DIGITS = re.compile(r"\d(?:[ -]?\d)*")
_MASKED_PHONE = re.compile(r"\*{2,} ?(\d{4})(?!\d)")


def order_number(text: str) -> str | None:
    """Return the last order number in a text (a correction comes last), in whatever width and spacing, or None."""
    narrow = unicodedata.normalize("NFKC", text)
    plain = _PLAIN_NUMBER.findall(narrow)
    if plain:
        return plain[-1]
    return next((run for run in _digit_runs(narrow) if len(run) == 8), None)


def phone_last4(text: str) -> str | None:
    """Return the last four digits of a phone number given as such, masked, or in full; else None."""
    narrow = _PLAIN_NUMBER.sub(" / ", unicodedata.normalize("NFKC", text))
    masked = _MASKED_PHONE.search(narrow)
    if masked:
        return masked.group(1)
    return next((run[-4:] for run in _digit_runs(narrow) if len(run) == 4 or len(run) >= MIN_PHONE_DIGITS), None)


def as_text(value: Any) -> str:
    """Return a slot's value as text; NLU gives a list where it found several entities."""
    return " / ".join(map(str, value)) if isinstance(value, list) else str(value or "")


def day(value: date, lang: str) -> str:
    """Return a date as people write it in that language."""
    if lang == "en":
        return f"{value.day} {value:%B %Y}"
    return f"{value.year}年{value.month}月{value.day}日"


def _digit_runs(text: str) -> list[str]:
    return [re.sub(r"\D", "", run) for run in _SPACED_DIGITS.findall(text)]
