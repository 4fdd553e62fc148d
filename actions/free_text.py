"""Readers for slots in the customer's own words: reason, address, title, name. An evasive answer gives None."""

import re

MAX_TEXT = 500  # limits a reason in characters; the rest of a longer one is cut off
MAX_LINE = 100  # limits an address or a title in characters
_HAN = re.compile(r"[\u3400-\u9fff]")
_PLACE = re.compile(
    r"[省市区县镇乡村路街道巷弄号栋幢楼室]|\d|\b(?:road|rd|street|st|avenue|ave|lane|room|building|district|apartment)\b",
    re.I,
)
_QUESTION = re.compile(
    r"[?？]$|(?:吗|呢|么)[。！!~～]*$|^(?:怎么|如何|多久|哪里|什么时候|how|what|when|where|which|why|can|do you)\b",
    re.I,
)
_YES_FIRST = re.compile(
    r"^\s*(?:(?:yes|yeah|yep|yup|sure|ok(?:ay)?|right|correct|对的?|是的?|好的?|嗯+|行|可以|没错|确认|确定)(?=[\s，,。.!！])"
    r"|(?:确认|确定|confirm\b))",
    re.IGNORECASE,
)
_NO_FIRST = re.compile(
    r"^\s*(?:no|nope|not|don'?t|do not|never|i (?:don'?t|do not|won'?t))\b|不(?:想|要|退|用|办|改)|^[我]?[不别没算]",
    re.I,
)
_TAKEN_BACK = re.compile(r"不|别|但|等|\b(?:not?|don'?t|but|wait|first|instead)\b", re.IGNORECASE)
_NAME_BEFORE = re.compile(
    r"^(?:请?(?:帮我)?(?:把?(?:名字|昵称)?)?(?:改成|换成|改为|叫|是)"
    r"|(?:please )?(?:change (?:it|my name) to|call me|my name is|it'?s))\s*[:：]?\s*",
    re.IGNORECASE,
)
_VERB = "(?:开给|开成|写成|填|开|写|是|为|叫)"
_TITLE_BEFORE = re.compile(
    r"^(?:(?:the )?(?:title|name|company(?: name)?) (?:is|should be)\b|(?:please )?(?:make it out|invoice it) to\b"
    rf"|(?:请|就|那就)?(?:(?:发票)?的?抬头|公司名?称?|名称|名字|单位)(?:请)?{_VERB}|(?:发票)?抬头|(?:公司)?名称(?=[:：])"
    rf"|(?:请|就|那就){_VERB}|开给|开成|写成)\s*[:：]?\s*",
    re.IGNORECASE,
)
_ADDRESS_BEFORE = re.compile(
    r"^(?:(?:please )?(?:(?:change|update|set) (?:it|(?:the|my) address) to\b|(?:send|ship|deliver) (?:it|them) to\b"
    r"|(?:my |the |our )?(?:new )?address (?:is|will be)\b|it(?:'s| is)\b|to\b)"
    r"|(?:请|麻烦|帮我|那就|就)*(?:(?:我的|我们的)?(?:新的?)?(?:收货)?地址(?:改为|改成|换成|是|为)?"
    r"|(?:改|换|送|寄|发|配送|派送)(?:到|去|成|为|往|给)))\s*[:：，,]?\s*",
    re.IGNORECASE,
)
_REASON_BEFORE = re.compile(
    r"^(?:(?:the |my )?reason(?: is)?(?: that)?\b|because\b(?! of)|since\b"
    r"|(?:退款|退货)?(?:的)?(?:理由|原因)(?:是|就是)?|因为|由于)\s*[:：，,]?\s*",
    re.IGNORECASE,
)
# A value inside a longer message: the patterns of words before the value. `_SAID_AFTER` matches words that follow the
# value and don't belong to it.
_ADDRESS_NAMED = re.compile(
    r"(?:[改换变寄送发](?:成|到|为|往|去|给)|地址[是为]|应该是|^(?:不对|错了|不是)[，,。 ]*是"
    r"|.*\bto\b|address (?:is|should be)\b|^(?:no|sorry)\b[,. ]*(?:it's|it is|i meant)\b)\s*[:：，,]?\s*(.+)$",
    re.IGNORECASE,
)
_REASON_NAMED = re.compile(
    r"(?:因为|由于|[原理][因由][是:：]|\bbecause\b(?! of)|\breason(?: is|:))\s*(.+)$", re.IGNORECASE
)
_TITLE_NAMED = re.compile(
    r"(?:抬头|公司名称?)(?:请)?(?:应该)?(?:开给|开成|写成|改成|改为|换成|填|开|写|是|为|[:：])\s*(.+)$|应该是\s*(.+)$"
    r"|^(?:不对|错了|不是)[，,。 ]*(?:是|写|开|改成)\s*(.+)$"
    r"|\b(?:in the name of|(?:make it|made) out to|(?:title|name|it) (?:is|should be))\s+(.+)$",
    re.IGNORECASE,
)
_SAID_AFTER = re.compile(
    r"[，,。.;； ]*(?:(?:我的?)?订单|手机|(?:for )?(?:my |the )?(?:order|phone)\b|thanks\b|thank you\b|please\b).*$"
    r"|[，, ]*(?:可以|行|好)?[吗么吧嘛]?[?？。.!！]*$",
    re.IGNORECASE,
)
# Answers that give no name: the customer doesn't know, or puts it off.
_EVASIVE = re.compile(
    r"(?:我|俺)?(?:也)?(?:还)?(?:不知道|不清楚|不确定|没想好|不懂|忘了|不记得|没有|不用|不需要|等一下|等等|稍等).*"
    r"|随便.*|随意.*|都行|都可以|无所谓|你们?(?:看着办|定|决定|说呢).*|什么.*|公司|企业|单位"
    r"|嗯+|哦+|啊+|好的?|是的?|对的?|可以|行"
    r"|(?:i )?(?:don'?t|do not) (?:know|care|remember|have).*|(?:i'?m |i am )?not sure.*|no idea.*|idk"
    r"|whatever.*|any(?:thing|one)?|(?:a |my |the )?(?:company|business|name)|doesn'?t matter.*|up to you"
    r"|you (?:choose|decide)|yes|no|ok(?:ay)?|none|hm+|wait.*",
    re.IGNORECASE,
)
# Words that announce a complaint without a word about its matter.
_ANNOUNCES = re.compile(
    r"\b(?:i|we)(?:['’]d| would)? (?:want|like|need|wish|have) to (?:make|file|lodge|submit|raise|register)"
    r" an? (?:formal )?(?:complaint|grievance)(?: (?:about|against|with))?\b"
    r"|(?:我|我们)?(?:要|想|需要|得)?(?:投诉|举报)(?:一下)?(?:你们|这家店)?",
    re.IGNORECASE,
)


def reason(text: str) -> str | None:
    """Return a reason without its introduction ("because"); None below four Chinese characters or three words."""
    words = _REASON_BEFORE.sub("", _line(text), count=1)[:MAX_TEXT]
    return words if len(_HAN.findall(words)) >= 4 or len(words.split()) >= 3 else None


def named_reason(text: str) -> str | None:
    """Return the reason that a longer message introduces ("because ..."); None if it introduces none."""
    match = _REASON_NAMED.search(_line(text))
    return reason(match[1]) if match else None


def is_story(text: str) -> bool:
    """Return whether a message says what happened, and doesn't only announce a complaint."""
    story = _ANNOUNCES.sub(" ", text)
    return len(_HAN.findall(story)) >= 8 or len(story.split()) >= 6


def is_question(text: str) -> bool:
    """Return whether a text asks something."""
    return _QUESTION.search(text.strip()) is not None


def tells_what_is_not(text: str) -> bool:
    """Return whether a sentence with a negation tells something ("it doesn't fit") rather than answers no."""
    return reason(text) is not None and _NO_FIRST.search(text) is None


def begins_with_yes(text: str) -> bool:
    """Return whether a message begins with a yes that the rest doesn't take back: "yes, cancel it"."""
    return bool(_YES_FIRST.search(text)) and not _TAKEN_BACK.search(text) and not is_question(text)


def address(text: str) -> str | None:
    """Return an address of at least six characters with a digit or a word like "street"; None for another text."""
    words = _ADDRESS_BEFORE.sub("", _line(text), count=1)[:MAX_LINE]
    return words if len(words) >= 6 and _PLACE.search(words) else None


def named_address(text: str) -> str | None:
    """Return the address that a longer message introduces ("send it to ..."); None if it introduces none."""
    match = _ADDRESS_NAMED.search(_line(text))
    return address(_SAID_AFTER.sub("", match[1])) if match else None


def title(text: str) -> str | None:
    """Return an invoice's title, the name of a person or company; None for an evasive answer."""
    words = _TITLE_BEFORE.sub("", _line(text), count=1).strip(" 。.!！")
    return words if 2 <= len(words) <= MAX_LINE and not _EVASIVE.fullmatch(words) else None


def named_title(text: str) -> str | None:
    """Return the invoice's title that a longer message introduces; None if it introduces none."""
    match = _TITLE_NAMED.search(_line(text))
    return title(_SAID_AFTER.sub("", next(filter(None, match.groups())))) if match else None


def name(text: str) -> str | None:
    """Return the name to show on the account, of 1 to 40 characters, not only digits; None for another text."""
    words = _NAME_BEFORE.sub("", _line(text), count=1).strip(" 。.!！\"'“”")
    return words if 1 <= len(words) <= 40 and not words.isdigit() else None


def _line(text: str) -> str:
    return " ".join(text.split())
