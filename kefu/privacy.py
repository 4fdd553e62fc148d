"""Personal data: found and masked wherever text leaves a process's memory.

Phone numbers and bank cards keep their last four characters, ID cards and e-mail addresses
nothing. Order and tracking numbers are not personal and stay as they are: a bank card must pass
the Luhn check and start as a card of a known network does, an ID card must pass its checksum.
"""

import re
from typing import Any

# Full-width digits and signs (０１２＠．＋－) as Chinese input methods write them, to ASCII, one to one.
_WIDE = {0xFF10 + n: str(n) for n in range(10)}
_WIDE.update({0xFF20: "@", 0xFF0E: ".", 0xFF0B: "+", 0xFF0D: "-", 0xFF38: "X", 0xFF58: "x"})

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}")
# Digits with single separators between them; letters before or after make it a tracking number.
_DIGITS = re.compile(r"(?<![A-Za-z0-9])\+?\(?\d(?:[ ()-]{0,2}\d){6,21}(?:[ -]?[Xx](?![A-Za-z0-9]))?(?![A-Za-z0-9])")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECK = "10X98765432"
_CN_MOBILE = re.compile(r"(?:0{0,2}86)?(1[3-9]\d{9})")
# Shapes with their separators: the bare digits could as well be a number of an order or a date.
_CN_LANDLINE = re.compile(r"\(?0\d{2,3}\)?[ -]\d{7,8}")
_NANP = re.compile(r"(?:1[ -])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ -])[2-9]\d{2}[ -]\d{4}")
_CARD = re.compile(r"(?:4|5[1-5]|2[2-7]|3[47]|35|6[0-9])\d+")


def mask(text: str) -> str:
    """Return `text` with personal data masked; masking twice changes nothing more."""
    if not text:
        return text
    narrow = text.translate(_WIDE)
    masked = _DIGITS.sub(_mask_digits, _EMAIL.sub("[email]", narrow))
    return text if masked == narrow else masked


def mask_all(value: Any) -> Any:
    """Return a copy of a JSON value with every string in it masked, keys left alone."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: mask_all(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask_all(item) for item in value]
    return value


def _mask_digits(found: "re.Match[str]") -> str:
    raw = found.group()
    digits = re.sub(r"[^0-9Xx]", "", raw).upper()
    if _is_id_card(digits):
        return "[id-card]"
    if _is_card(digits) or _is_phone(digits, raw):
        return "*" * (len(digits) - 4) + digits[-4:]
    return raw


def _is_id_card(digits: str) -> bool:
    if len(digits) != 18 or not digits[:17].isdigit():
        return False
    return _ID_CHECK[sum(int(d) * w for d, w in zip(digits, _ID_WEIGHTS)) % 11] == digits[17]


def _is_card(digits: str) -> bool:
    if not 13 <= len(digits) <= 19 or not digits.isdigit() or not _CARD.fullmatch(digits):
        return False
    doubled = (int(d) * (2 if n % 2 else 1) for n, d in enumerate(reversed(digits)))
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _is_phone(digits: str, raw: str) -> bool:
    if not digits.isdigit():
        return False
    if _CN_MOBILE.fullmatch(digits):
        return True
    if raw.startswith("+"):
        return 8 <= len(digits) <= 15
    return bool(_CN_LANDLINE.fullmatch(raw) or _NANP.fullmatch(raw))
