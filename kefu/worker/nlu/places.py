"""Finds addresses by their parts (road and door, street and city), because no list contains all addresses."""

import re
from typing import FrozenSet, Iterator, List, NamedTuple, Optional, Tuple

from kefu.worker.nlu.text import HAN

Found = Tuple[int, int]  # start and end in the text

_ROAD = "路|街|道|巷|弄|胡同|村|小区|花园|家园|公寓|广场|大厦|苑|镇|里"
_DOOR = (
    r"[东南西北]?[\dA-Za-z甲乙丙丁一二三四五六七八九十-]+(?:号院|号楼|号|栋|幢|座|单元|层|楼|室|户|房|门|组|段|期|弄)"
)
_ADDRESS_ZH = re.compile(
    rf"[{HAN}\dA-Za-z#-]{{2,40}}?(?:{_ROAD})"
    rf"(?:\s*(?:{_DOOR}|[{HAN}]{{2,8}}?(?:小区|花园|大厦|公寓|广场|苑)))+(?:\s?\d{{2,4}})?"
)
_LEAD = re.compile(
    r"^.*?(?:地址(?:是|为|改成|改为|换成|写的|填的)?|改成|改到|改为|换成|换到|寄到|送到|发到|寄往|送去|寄去|收货到|住在|住|在|到|是|送|寄|改)(?=.{6})"
)
_PROVINCES = (
    "北京|上海|天津|重庆|河北|山西|辽宁|吉林|黑龙江|江苏|浙江|安徽|福建|江西|山东|河南|湖北|湖南|广东|海南|四川|贵州|云南|陕西|甘肃"
    "|青海|台湾|内蒙古|广西|西藏|宁夏|新疆|香港|澳门"
)
_NAMED = r"(?:(?:[A-Za-z'-]+|\d+(?:st|nd|rd|th)) ){0,4}?"
_STREET = re.compile(
    rf"(?:\bno\.? ?)?\b\d+[A-Za-z]?,? {_NAMED}"
    r"(?:road|rd|street|st|avenue|ave|lane|ln|boulevard|blvd|drive|dr|alley|way)\b\.?"
    r"|(?:[A-Z][A-Za-z'-]+ ){1,3}(?:Road|Rd|Street|St|Avenue|Ave|Lane)\b\.? (?:No\.? ?)?\d+",
    re.IGNORECASE,
)
_PART = re.compile(
    r"\b(?:room|rm|apt|apartment|unit|flat|suite|building|bldg|block|tower|floor|no|dorm|gate|villa|house)\b\.? ?#?"
    r"(?:\d[\dA-Za-z-]{0,6}|[A-Z]\d{0,3}\b)"
    r"|\b\d+(?:st|nd|rd|th)? (?:floor|f)\b|\b\d+/?f\b|#\d+"
    r"|\b(?:[A-Z][A-Za-z'-]+ ){1,3}"
    r"(?:district|province|county|city|town|community|gardens?|plaza|tower|building|park|new area)\b"
    r"|\b\d{6}\b|\bp\.?r\.? china\b|\bchina\b",
    re.IGNORECASE,
)
# A district's name between a street and a city: Pudong, Kowloon.
_AREA = re.compile(r"[A-Z][a-z]+(?: [A-Z][a-z]+){0,2}[ .!?]*")
_COMMA = re.compile(r"\s*,\s*")


def addresses(text: str, cities: FrozenSet[str]) -> Iterator[Found]:
    """Yield the Chinese addresses in `text`, which must be folded, and the first English one."""
    for found in _ADDRESS_ZH.finditer(text):
        start = found.start() + _cut(found.group(), cities)
        if re.search(r"\d|[一二三四五六七八九十]号", text[start : found.end()]):
            yield start, found.end()
    if _STREET.search(text):
        yield from _english(text, cities)


def _cut(words: str, cities: FrozenSet[str]) -> int:
    """Return where the address begins in a Chinese match: at a province or city, or after words like "address is"."""
    begin = re.search(_PROVINCES, words)
    city = min((at for at in (words.find(each) for each in cities) if at >= 0), default=None)
    places = [at for at in (begin.start() if begin else None, city) if at is not None]
    if places:
        return min(places)
    lead = _LEAD.match(words)
    return lead.end() if lead else 0


def _english(text: str, cities: FrozenSet[str]) -> Iterator[Found]:
    pieces: List[Tuple[int, int]] = []
    at = 0
    for comma in _COMMA.finditer(text):
        pieces.append((at, comma.start()))
        at = comma.end()
    pieces.append((at, len(text)))
    parts = [_part(text[start:end], cities) for start, end in pieces]
    for number, part in enumerate(parts):
        if part is None or not part.street:
            continue
        first = last = number
        begin = end = part
        while first > 0 and begin.start == 0 and (before := parts[first - 1]) is not None and before.to_end:
            first, begin = first - 1, before
        while last + 1 < len(parts) and end.to_end:
            after = parts[last + 1]
            if after is None and last + 2 < len(parts) and _AREA.fullmatch(text[slice(*pieces[last + 1])]):
                after = _Part(0, True, False, pieces[last + 1][1] - pieces[last + 1][0])
            if after is None or after.start != 0:
                break
            last, end = last + 1, after
        yield pieces[first][0] + begin.start, pieces[last][0] + end.end
        return


class _Part(NamedTuple):
    """What is an address in the text between two commas.

    Attributes:
        start: where it begins in that text.
        to_end: whether it reaches the end of that text, so that the next text may belong to the same address.
        street: whether it has a street.
        end: where it ends in that text.
    """

    start: int
    to_end: bool
    street: bool
    end: int


def _part(piece: str, cities: FrozenSet[str]) -> Optional[_Part]:
    """Return what is an address in the text between two commas; None if nothing is."""
    matches = list(_STREET.finditer(piece)) + list(_PART.finditer(piece))
    for city in cities:
        if city.isascii() and (at := re.search(rf"\b{re.escape(city)}\b(?: \d{{6}})?", piece, re.IGNORECASE)):
            matches.append(at)
    if not matches:
        return None
    start, end = min(each.start() for each in matches), max(each.end() for each in matches)
    return _Part(start, end >= len(piece.rstrip(" .!?")), bool(_STREET.search(piece)), end)
