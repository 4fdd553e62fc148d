"""Detects a text's language, Chinese or English, by counting Chinese characters and English words."""

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
# Words that people type in any language. They don't count, so that "ok" does not make a Chinese conversation English.
_ANYWHERE = frozenset("ok okay app vip id sf ems dhl ups qq wechat alipay emm hmm lol".split())


class Language(NamedTuple):
    """A language (`zh` or `en`), and the place of the first character or word of that language."""

    value: str
    start: int
    end: int


def detect(text: str, taken: Sequence[Span] = ()) -> Optional[Language]:
    """Return the language of `text`; None if it has no words of either language (digits, emoji, "ok").

    A Chinese character counts as much as an English word. A tie is Chinese, because English words inside Chinese
    sentences are common and the reverse is not.

    Args:
        text: the text as typed.
        taken: spans of other entities. The returned place is outside of them if possible, because annotated text can't
            show one entity within another.
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
