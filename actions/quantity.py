"""Reads the quantity that a customer wants: 十二个, "twenty", "from 1 to 3".

An unclear text gives None, so that the form asks again: a wrong quantity costs the customer money.
"""

import re
import unicodedata
from collections.abc import Iterator

MOST = 999  # limits a quantity; a larger number is not read as one
_HAN = dict(zip("零〇一二两三四五六七八九", (0, 0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9), strict=True))
_HAN_UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10_000}
_ONES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_WORDS = {word: n for n, word in enumerate(_ONES)} | {word: 10 * n for n, word in enumerate(_TENS, 2)}
_MEASURES = "个個件台只隻双雙条條本套盒箱瓶部把张張支份副款枚根单罐包袋对對打"
_HAN_WORD = f"[{''.join(_HAN)}{''.join(_HAN_UNITS)}]+"
# A number that may be a quantity: no part of an order, phone or goods number (MC-301), no day, price, "一下", "第二个".
_NUMBER = re.compile(
    rf"""(?P<minus>(?<![A-Za-z0-9)])[-−–]\s?|负)?
    (?:(?P<digits>(?<![A-Za-z0-9.])(?<![A-Za-z]-)\d{{1,3}}(?:\.\d+)?(?![\d.]*\d))
      |(?<![第每哪这那同另这點点])(?P<han>{_HAN_WORD})(?=\s*(?:[{_MEASURES}]|[了吧就，。,.!！?？]|$))
      |\b(?P<words>(?:{"|".join(_TENS)})(?:[ -](?:{"|".join(_ONES[1:10])}))?|{"|".join(sorted(_ONES, key=len)[::-1])})\b
    )(?!\s*(?:天|元|块|号|月|点|年|分|小时|%|days?\b|yuan\b|usd\b|cny\b|rmb\b|hours?\b))
    (?P<dozen>\s*(?:打|dozen\b))?""",
    re.IGNORECASE | re.VERBOSE,
)
_NO_ONE = re.compile(
    r"\b(?:this|that|the|which|other|another|no|every|each) one\b"
    r"|\bone\b(?!\s*(?:$|[,.!?]|pieces?\b|units?\b|items?\b|instead\b|only\b|please\b|of\b|dozen\b))",
    re.IGNORECASE,
)
_LONG_NUMBER = re.compile(r"\d{4}[ -]\d{4}(?!\d)|\d{4,}")
_TIMES = re.compile(r"(?<![A-Za-z])[x×*]\s?(?=\d)", re.IGNORECASE)
_PART = re.compile(r"半|\bhalf\b", re.IGNORECASE)
# Words that stand before the new quantity, and never before the old quantity.
_TARGET = re.compile(
    r"(?:[改變换換调調]?成|[改变换调減减]?为|[改调加增减減]到|到|数量是?|數量是?|只?要"
    r"|\b(?:to|into|be|quantity(?: is)?|qty|make it|want|need|instead)|->|→|[:=])\s*(?:只|just |only )?\s*$",
    re.IGNORECASE,
)
_NOT_WANTED = re.compile(r"(?:不是|不要|而非|别|\bnot|\binstead of|\brather than|\bfrom)\s*$", re.IGNORECASE)
# Words such as "two more": the new quantity depends on the ordered quantity, which is not known here.
_RELATIVE = re.compile(
    r"再[加来买要添]|多[加买要来拿]|少[买要来拿]|[加减少添](?:上|掉|去)?\s*$|\b(?:more|fewer|less|extra|additional|add|remove)\b",
    re.IGNORECASE,
)


def quantity(text: str) -> int | None:
    """Return the quantity in an answer, 1 to 999; None if there is none, for parts ("half"), and for "two more"."""
    numbers = list(_numbers(text))
    wanted = [value for value, before, _ in numbers if _TARGET.search(before) and not _NOT_WANTED.search(before)]
    if wanted:
        return _orderable(wanted[-1])
    possible = [(value, before, whole) for value, before, whole in numbers if not _NOT_WANTED.search(before)]
    if not possible:
        return None
    value, before, whole = possible[-1]
    return None if _RELATIVE.search(before) or _RELATIVE.search(whole) else _orderable(value)


def target(text: str) -> int | None:
    """Return the quantity that a message marks as new ("改成3个", "to 3"); None if it marks none."""
    wanted = [value for value, before, _ in _numbers(text) if _TARGET.search(before) and not _NOT_WANTED.search(before)]
    return _orderable(wanted[-1]) if wanted else None


def names_number(text: str) -> bool:
    """Return whether a text contains any number."""
    return any(character.isdigit() for character in text) or any(True for _ in _numbers(text))


def _numbers(text: str) -> Iterator[tuple[float, str, str]]:
    """Yield each number with the text before it and the whole text."""
    narrow = _TIMES.sub(" ", _LONG_NUMBER.sub("#", unicodedata.normalize("NFKC", text)))
    whole = _NO_ONE.sub("#", narrow)
    for match in _NUMBER.finditer(whole):
        value = float(match["digits"]) if match["digits"] else _in_words(match["han"], match["words"])
        if match["minus"] or _PART.search(whole):
            value = -1
        yield value * (12 if match["dozen"] else 1), whole[: match.start()], whole


def _in_words(han: str | None, words: str | None) -> float:
    if han is None:
        return sum(_WORDS[word] for word in re.split(r"[ -]", str(words).lower()))
    total = digits = 0
    for character in han:
        if character in _HAN_UNITS:
            total, digits = total + (digits or 1) * _HAN_UNITS[character], 0
        else:
            digits = digits * 10 + _HAN[character]
    return total + digits


def _orderable(value: float) -> int | None:
    return int(value) if value == int(value) and 1 <= value <= MOST else None
