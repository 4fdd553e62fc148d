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
            if found := _INTENT.match(line):
                intent = found.group(1)
            elif found := _PHRASE.match(line):
                yield intent, found.group(1).strip('"')


def spoken(text: str) -> str:
    """Return what is left of a phrase without its spelling: letters and digits of one width and case."""
    return "".join(re.findall(r"\w", unicodedata.normalize("NFKC", text).casefold()))
