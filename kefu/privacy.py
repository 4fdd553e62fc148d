"""Masks personal data wherever text leaves a process's memory.

Phone numbers and bank cards keep their last four digits, ID cards and e-mail addresses nothing. Order and tracking
numbers are not personal and stay. To tell them apart, a bank card must pass the Luhn check and start like a card of a
known network, and an ID card must pass its checksum.
"""

import re
from typing import Any

# Full-width digits and signs (０１２＠．＋－), as Chinese input methods write them, to ASCII; one character to one.
_WIDE = {0xFF10 + n: str(n) for n in range(10)}
_WIDE.update({0xFF20: "@", 0xFF0E: ".", 0xFF0B: "+", 0xFF0D: "-", 0xFF38: "X", 0xFF58: "x"})

# Each pattern is searched by itself, so that a phone number beside an order number is still found.
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
_ID_CARD = re.compile(r"(?<![A-Za-z0-9])\d{6}[ -]?\d{8}[ -]?\d{3}[\dXx](?![A-Za-z0-9])")
_CARD = re.compile(
    r"(?<![A-Za-z0-9])(?:\d{13,19}|\d{4}(?:[ -]\d{4}){2,3}(?:[ -]\d{1,4})?|\d{4}[ -]\d{6}[ -]\d{5})(?![A-Za-z0-9])"
)
_CARD_NETWORK = re.compile(r"(?:4|5[1-5]|2[2-7]|3[47]|35|6[0-9])\d+")
_PHONES = tuple(
    re.compile(rf"(?<!\d){shape}(?!\d)")
    for shape in (
        r"(?:(?:\+|00)?86[ -]?)?1[3-9]\d([ -]?)\d{4}\1\d{4}",  # mainland mobile
        r"\+\d(?:[ ()-]{0,2}\d){7,14}",  # international
        r"\(?0\d{2,3}(?:\) ?|[ -])\d{7,8}",  # mainland landline: bare digits could be anything else
        r"(?:1[ -])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ -])[2-9]\d{2}[ -]\d{4}",  # North America
    )
)
# Every pattern needs an @, a plus sign, or ten digits with at most two other characters between neighbours. Most
# messages have none of these, and skip the search for each pattern.
_SUSPECT = re.compile(r"[@＠+＋]|(?:\d\D{0,2}){9}\d")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECK = "10X98765432"


def mask(text: str) -> str:
    """Return `text` with personal data masked; masking again changes nothing."""
    if not _SUSPECT.search(text):
        return text
    narrow = text.translate(_WIDE)
    masked = _EMAIL.sub("[email]", narrow)
    masked = _CARD.sub(_mask_card, _ID_CARD.sub(_mask_id_card, masked))
    for phone in _PHONES:
        masked = phone.sub(_keep_last_four, masked)
    return text if masked == narrow else masked


def mask_all(value: Any) -> Any:
    """Return a copy of a JSON value with every string in it masked, except keys."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: mask_all(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_all(item) for item in value]
    return value


def _keep_last_four(found: "re.Match[str]") -> str:
    digits = re.sub(r"\D", "", found.group())
    return "*" * (len(digits) - 4) + digits[-4:]


def _mask_id_card(found: "re.Match[str]") -> str:
    digits = re.sub(r"[ -]", "", found.group()).upper()
    check = _ID_CHECK[sum(int(digit) * weight for digit, weight in zip(digits[:17], _ID_WEIGHTS, strict=True)) % 11]
    return "[id-card]" if check == digits[17] else found.group()


def _mask_card(found: "re.Match[str]") -> str:
    digits = re.sub(r"\D", "", found.group())
    doubled = (int(digit) * (2 if n % 2 else 1) for n, digit in enumerate(reversed(digits)))
    passes_luhn = sum(digit - 9 if digit > 9 else digit for digit in doubled) % 10 == 0
    is_card = len(digits) >= 13 and passes_luhn and _CARD_NETWORK.fullmatch(digits)
    return _keep_last_four(found) if is_card else found.group()
