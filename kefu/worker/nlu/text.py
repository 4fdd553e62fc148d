"""Folds texts to half-width forms and simplified characters, and splits them into tokens.

A folded text is as long as the text that the customer typed, so that positions in one are valid in the other.
"""

import re
from typing import Dict, List, Tuple

from opencc import OpenCC

HAN_RANGES = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF))
HAN = "".join(f"{chr(first)}-{chr(last)}" for first, last in HAN_RANGES)
LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
_TOKEN = re.compile(rf"[{LATIN}]+(?:['’][{LATIN}]+)*|\d+|[{HAN}]|[^\s\w]|\w")


def _folding() -> Dict[int, int]:
    """Return the map from full-width forms and traditional characters to half-width forms and simplified characters.

    It maps single characters. OpenCC's conversion of phrases would be better Chinese, but it changes the length.
    """
    table = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
    table[0x3000] = 0x20
    han = [chr(code) for first, last in HAN_RANGES for code in range(first, last + 1)]
    simplified = OpenCC("t2s").convert("\n".join(han)).split("\n")
    table.update((ord(old), ord(new)) for old, new in zip(han, simplified, strict=True) if old != new and len(new) == 1)
    return table


_FOLDING = _folding()


def fold(text: str) -> str:
    """Return `text` in half-width forms and simplified characters. Its length stays the same."""
    return text if text.isascii() else text.translate(_FOLDING)


def tokens(text: str) -> List[Tuple[str, int]]:
    """Return (token, start) of each Latin word, run of digits, single Chinese character and sign."""
    return [(found.group(), found.start()) for found in _TOKEN.finditer(text)]
