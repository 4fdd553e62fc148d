"""The customer's language, by counting scripts: the same text gives the same answer anywhere."""

import re
from typing import NamedTuple, Optional

from kefu.worker.nlu.text import HAN, LATIN

CHINESE = "zh"
ENGLISH = "en"

_NOT_PROSE = re.compile(r"\S+@\S+|https?://\S+|www\.\S+", re.ASCII)
_HAN_RUN = re.compile(f"[{HAN}]+")
# A Latin word of two letters or more; one with digits in it is a parcel number or a model name.
_WORD = re.compile(rf"(?<![{LATIN}\d])[{LATIN}]{{2,}}(?:['’][{LATIN}]+)*(?![{LATIN}\d])|\bI\b")
# What people type in any language: it must not turn a Chinese conversation into an English one.
_ANYWHERE = frozenset("ok okay app vip id sf ems dhl ups qq wechat alipay emm hmm lol".split())


class Language(NamedTuple):
    """A language (`zh` or `en`) and the place of the first run of text that speaks for it."""

    value: str
    start: int
    end: int


def detect(text: str) -> Optional[Language]:
    """Return the language of `text`, None where nothing tells (digits, emoji, "ok").

    A Chinese character weighs as much as an English word; a tie is Chinese, for English words
    inside Chinese sentences are common and the reverse is not.
    """
    prose = _NOT_PROSE.sub(lambda found: " " * len(found.group()), text)
    runs = list(_HAN_RUN.finditer(prose))
    words = [word for word in _WORD.finditer(prose) if word.group().lower() not in _ANYWHERE]
    if runs and sum(len(run.group()) for run in runs) >= len(words):
        return Language(CHINESE, *runs[0].span())
    return Language(ENGLISH, *words[0].span()) if words else None
