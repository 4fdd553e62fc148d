"""The phrases of NLU files, for tests that compare them."""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

_INTENT = re.compile(r"^ {2}- intent: (\w+)$")
_PHRASE = re.compile(r"^ {6}- (.+)$")


def phrases(*files: Path) -> Iterator[tuple[str, str]]:
    """Yield (intent, phrase) of every example in Rasa's NLU files."""
    for file in files:
        intent = ""
        for line in file.read_text(encoding="utf-8").splitlines():
            if match := _INTENT.match(line):
                intent = match.group(1)
            elif match := _PHRASE.match(line):
                yield intent, match.group(1).strip('"')


def spoken(text: str) -> str:
    """Return the letters and digits of a phrase, in one width and case: phrases that differ in spelling are equal."""
    return "".join(re.findall(r"\w", unicodedata.normalize("NFKC", text).casefold()))
