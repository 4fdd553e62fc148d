"""Text as the pipeline sees it: one width, one script, in tokens that keep their places.

A message comes in as typed; folding gives a text of the same length, so that positions hold.
"""

import re
from pathlib import Path
from typing import Dict, List, Tuple

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
LATIN = "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
_TOKEN = re.compile(rf"[{LATIN}]+(?:['’][{LATIN}]+)*|\d+|[{HAN}]|[^\s\w]|\w")
_TRADITIONAL = Path(__file__).with_name("traditional.tsv")


def _folding() -> Dict[int, int]:
    """Return the map from full-width forms and traditional characters to their plain ones.

    Source: OpenCC's TSCharacters (Apache-2.0), what Big5 and GB 2312 hold, first choice each.
    """
    table = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
    table[0x3000] = 0x20
    for line in _TRADITIONAL.read_text(encoding="utf-8").splitlines():
        traditional, simplified = line.split("\t")
        table.update(zip(map(ord, traditional), map(ord, simplified), strict=True))
    return table


_FOLDING = _folding()


def fold(text: str) -> str:
    """Return `text` in half-width forms and simplified characters, of the same length."""
    return text if text.isascii() else text.translate(_FOLDING)


def tokens(text: str) -> List[Tuple[str, int]]:
    """Return (token, start): Latin words, digit runs, single Chinese characters and signs."""
    return [(found.group(), found.start()) for found in _TOKEN.finditer(text)]
