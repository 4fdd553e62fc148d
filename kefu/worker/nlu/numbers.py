"""Finds numbers in customers' texts: order numbers, the last four digits of a phone number, and any other.

Numbers may stand next to Chinese characters, be full-width or have gaps. The gateway masks phone numbers, so they
arrive as `*******1234`.
"""

import re
from typing import Iterator, List, NamedTuple

from kefu.worker.nlu.text import fold

ORDER_NUMBER = "order_number"
PHONE_LAST4 = "phone_last4"
NUMBER = "number"  # any other number: its meaning depends on the form's question

# The most certain pattern first: text that one pattern has matched is not tried with the next ones. A date (2026-11-20)
# has its gaps in other places than a grouped order number (2026-0001).
_PATTERNS = (
    (PHONE_LAST4, r"\*{3,}[ -]?(?P<value>\d{4})(?!\d)"),
    (PHONE_LAST4, r"(?<![\dA-Za-z])(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?(?P<value>\d{4})(?!\d)"),
    (ORDER_NUMBER, r"(?<!\d)(?<!\D\d{6} )(?<!^\d{6} )(?P<value>20\d{6})(?!\d)"),
    (ORDER_NUMBER, r"(?<![\d-])(?P<value>20\d\d[ -]\d{4}|20\d\d \d\d \d\d|2(?: 0)(?: \d){6})(?![ -]?\d)"),
    (
        PHONE_LAST4,
        r"(?:尾号|(?:后|末|最后)(?:四|4)(?:位|个|码)(?:数字?)?|手机号?码?|电话(?:号码?)?"
        r"|last (?:four|4)(?: digits)?|end(?:s|ing)|phone(?: number)?)"
        r"(?: (?:of )?(?:my|the) phone(?: number)?)?[\s:,]*(?:是|为|in|with|is|are)?[\s:]*"
        r"(?P<value>\d{4})(?!\d)",
    ),
    (PHONE_LAST4, r"(?<!\d)(?P<value>\d{4})(?=\s*(?:是|is|are)[^\d]{0,12}(?:尾号|后四位|last (?:four|4)))"),
    (NUMBER, r"(?<![\dA-Za-z])(?P<value>\d(?: \d){2,20}|\d{3,20})(?![\dA-Za-z])"),
)
_COMPILED = [(name, re.compile(pattern, re.IGNORECASE)) for name, pattern in _PATTERNS]


class Number(NamedTuple):
    """A number in a text: its kind, its digits, its start and end."""

    kind: str
    value: str
    start: int
    end: int


def find_numbers(text: str) -> List[Number]:
    """Return the numbers in `text` in the order of their places, none overlapping."""
    return sorted(_find(fold(text)), key=lambda number: number.start)


def _find(folded: str) -> Iterator[Number]:
    if not any(map(str.isdigit, folded)):
        return
    for kind, pattern in _COMPILED:
        for found in pattern.finditer(folded):
            start, end = found.span("value")
            yield Number(kind, re.sub(r"\D", "", found.group("value")), start, end)
        folded = pattern.sub(lambda found: "\x00" * len(found.group()), folded)
