"""The customer's language, by counting scripts: the same text gives the same answer anywhere."""

import re
from typing import List, NamedTuple, Optional, Sequence, Tuple

from kefu.worker.nlu.text import HAN, LATIN

Span = Tuple[int, int]
CHINESE = "zh"
ENGLISH = "en"

_NOT_PROSE = re.compile(r"\S+@\S+|https?://\S+|www\.\S+", re.ASCII)
_HAN = re.compile(f"[{HAN}]")
# A Latin word of two letters or more; one with digits in it is a parcel number or a model name.
_WORD = re.compile(rf"(?<![{LATIN}\d])[{LATIN}]{{2,}}(?:['’][{LATIN}]+)*(?![{LATIN}\d])|\bI\b")
# What people type in any language: it must not turn a Chinese conversation into an English one.
_ANYWHERE = frozenset("ok okay app vip id sf ems dhl ups qq wechat alipay emm hmm lol".split())


class Language(NamedTuple):
    """A language (`zh` or `en`) and the place of the first character or word that speaks for it."""

    value: str
    start: int
    end: int


def detect(text: str, taken: Sequence[Span] = ()) -> Optional[Language]:
    """Return the language of `text`, None where nothing tells (digits, emoji, "ok").

    A Chinese character weighs as much as an English word; a tie is Chinese, for English words
    inside Chinese sentences are common and the reverse is not.

    Args:
        text: as typed.
        taken: spans of other entities, which are kept clear of where that can be: annotated text can't show
            one entity within another.
    """
    prose = _NOT_PROSE.sub(lambda found: " " * len(found.group()), text)
    characters = [found.span() for found in _HAN.finditer(prose)]
    words = [word.span() for word in _WORD.finditer(prose) if word.group().lower() not in _ANYWHERE]
    if characters and len(characters) >= len(words):
        return Language(CHINESE, *_place(characters, taken))
    return Language(ENGLISH, *_place(words, taken)) if words else None


def _place(spans: List[Span], taken: Sequence[Span]) -> Span:
    free = (span for span in spans if all(span[1] <= start or end <= span[0] for start, end in taken))
    return next(free, spans[0])
