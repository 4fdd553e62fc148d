"""Converts the words of an entity into its value: numbers, money, personal data.

The function of an entity takes the words of a match and the pattern's id. It returns the value; None if the words only
look like one, for example a card number with a wrong check digit.
"""

import re
from decimal import Decimal
from typing import Any, Dict, Optional

from kefu.privacy import mask

_DIGITS = {digit: at for at, digit in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_UNITS = {"十": 10, "百": 100, "千": 1000}
_ENGLISH = {
    word: at
    for at, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
        " seventeen eighteen nineteen".split()
    )
} | {word: (at + 2) * 10 for at, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split())}
_CHINESE_NUMBER = re.compile(r"[零〇一二两三四五六七八九十百千万]+")
_NUMBER = re.compile(r"(?P<digits>\d+(?:,\d{3})*(?:\.\d+)?)(?P<unit>[十百千万]*)")
_SMALL_CHANGE = re.compile(r"[块元]\s*(?P<tenths>[\d一二三四五六七八九])角?$")
_PAIRS = {"俩": 2, "仨": 3}
_MOBILE_DIGITS = 11


def number(words: str) -> Optional[Decimal]:
    """Return the number that `words` contain, in digits, Chinese or English; None if there is none."""
    found = _NUMBER.search(words)
    if found:
        times = _chinese(found.group("unit")) if found.group("unit") else None
        return Decimal(found.group("digits").replace(",", "")) * (times or 1)
    chinese = _CHINESE_NUMBER.search(words)
    if chinese:
        return _chinese(chinese.group())
    return _english(words)


def _chinese(words: str) -> Optional[Decimal]:
    if len(words) > 1 and not set(words) & set("十百千万"):
        # Without a unit, a numeral with a zero is read digit by digit (二零二六). Others are estimates, such as 两三
        # ("two or three"), and no number.
        return Decimal("".join(str(_DIGITS[each]) for each in words)) if set(words) & set("零〇") else None
    total = section = digit = last = 0
    for each in words:
        if each in _DIGITS:
            digit = _DIGITS[each]
        elif each == "万":
            total, section, digit, last = (total + section + digit or 1) * 10_000, 0, 0, 10_000
        else:
            last = _UNITS[each]
            section, digit = section + (digit or 1) * last, 0
    # 一百二 is 120, 一百零二 is 102.
    short = len(words) > 1 and words[-1] in _DIGITS and words[-2] in "百千万"
    return Decimal(total + section + digit * (last // 10 if short else 1))


def _english(words: str) -> Optional[Decimal]:
    total: Optional[int] = None
    said = re.findall(r"[a-z]+", words.lower())
    if "couple" in said:
        return Decimal(2)
    for word in said:
        if word == "hundred":
            total = (total or 1) * 100
        elif word == "thousand":
            total = (total or 1) * 1000
        elif word in _ENGLISH:
            total = (total or 0) + _ENGLISH[word]
    if total is None and {"a", "an"} & set(said):
        return Decimal(1)
    return None if total is None else Decimal(total)


def amount(words: str, currency: str) -> Optional[Dict[str, str]]:
    """Return `{"number", "currency"}`: a number with two decimal places, and the pattern's id, an ISO 4217 code."""
    # 一块 usually means "together", and 万元 has no number before its unit.
    if words in ("一块", "一圆", "一元") or words[0] in "百千万":
        return None
    found = number(words)
    change = _SMALL_CHANGE.search(words)
    if found is None:
        return None
    if change:
        found += (number(change.group("tenths")) or Decimal(0)) / Decimal(10)
    return {"number": f"{found:.2f}", "currency": currency}


def quantity(words: str, kind: str) -> Optional[str]:
    """Return a whole number from 1 to 9,999 as digits; None for others. With the id `dozen`, it counts dozens."""
    found = Decimal(_PAIRS[words]) if words in _PAIRS else number(words)
    if kind == "dozen":
        found = Decimal(6) if "half" in words.lower() else (found or Decimal(1)) * 12
    return str(found) if found is not None and found == int(found) and 0 < found < 10_000 else None


def phone(words: str, _: str) -> Optional[str]:
    """Return a mobile number masked like the gateway does it: only the last four digits are kept."""
    digits = re.sub(r"\D", "", words)
    return "*" * (_MOBILE_DIGITS - 4) + digits[-4:]


def email(words: str, _: str) -> Optional[str]:
    """Return an e-mail address masked like the gateway does it. A mask that the customer sent stays, in lower case."""
    return words.lower() if "*" in words else mask(words)


def id_card(words: str, _: str) -> Optional[str]:
    """Return an ID card's number masked; None if its check digit is wrong."""
    masked = mask(re.sub(r"[ -]", "", words).upper()) if words[0].isdigit() else words
    return masked if not masked[0].isdigit() else None


def bank_card(words: str, kind: str) -> Optional[str]:
    """Return a bank card's number masked; None if its check digit or its network is wrong."""
    if kind == "masked":
        return words.replace(" ", "").replace("-", "")
    masked = mask(re.sub(r"[ -]", "", words))
    return masked if masked[0] == "*" else None


def as_written(words: str, _: str) -> Optional[Any]:
    """Return the matched text unchanged: the value of an entity that has no normal form."""
    return words
