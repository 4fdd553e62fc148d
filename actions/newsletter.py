"""Reads from a customer's words whether to start or stop the newsletter. If the words are not clear, the form asks.

Words about the past ("unsubscribed by mistake", 从没订阅过) are removed first. Then words that stop the newsletter are
removed with their object (取消订阅, "don't send me"). The rest is searched for words that start it. If both kinds of
words or neither occur, nothing is decided.
"""

import re
import unicodedata

_SIMPLIFIED = str.maketrans("訂閱開關閉發廣請幫還絕從別過電報會沒給", "订阅开关闭发广请帮还绝从别过电报会没给")
_REST = r"[^，,。.！!？?；;]"  # any character within the clause
_UNSURE = re.compile(
    r"(?:不|别|不要|不想|没想)(?:要|想|给我|帮我)?(?:退订|取消|关掉|关闭)|不(?:想|要)错过|不(?:想|要)漏"
    r"|只(?:想|要|收)|设置|是不是|是否"
    r"|\b(?:do not|don't|dont|never|not)(?: want(?: you)? to)? (?:stop|cancel|unsub\w*|remove|end|miss)\b"
    r"|\b(?:did|have|am|was|were) (?:i|we)\b|\b(?:only|fewer|less|instead|rather)\b|\bnot sure\b",
    re.ASCII,  # so that a word ends where Chinese begins
)
_BEFORE = re.compile(
    rf"(?:已经|之前|手滑|不小心|误|被|刚才?|上次|以前){_REST}{{0,6}}(?:退订|取消(?:订阅)?)(?:了|掉|过)?"
    r"|(?:退订|取消订阅)(?:了(?!吧)|过)|没(?:有)?(?:订阅?|开通|同意)过?|(?:订阅?|开通|接收)(?:了|过)"
    rf"|\bunsu[bs]\w*(?:bed|bing)\b|\bnever (?:{_REST}{{0,10}} )?(?:subscribed?|asked|signed|wanted|opted)\b"
    r"|\b(?:subscribed|signed up|opted in)\b",
    re.ASCII,
)
_STOPS = re.compile(
    r"(?:退[订丁顶定]|推订|(?<=定)退|取消|关闭|关掉|关了|关一?下|(?:怎么|如何|咋|能不能)关|停[掉了止发用]|停一?下"
    r"|屏蔽|移除|移出|去掉|删掉|删除|拒收|拒绝|终止|退掉|退出"
    rf"|(?:怎么|如何|咋|给我|帮我)退(?![款货换]))(?:{_REST}{{0,8}})"
    rf"|(?<![要能可会])(?:不要|不想|不用|不需要|不愿|不再|不接[收受]|不收(?!费)|不看|勿|甭){_REST}{{0,12}}"
    rf"|(?<![特分区个级])别(?![的处人]){_REST}{{0,12}}|广告别发|都别来"
    r"|还(?:在|是|老|一直|天天|会)*(?:给我)?(?:发|收到|推)"
    rf"|\bunsu[a-z]*be\b{_REST}{{0,40}}|\bunsub\b|\btd\b|\bopt(?:ing)?(?: me)? out\b"
    rf"|\b(?:stop|quit|cease|cancel|end|disable|mute|block)\b{_REST}*"
    rf"|\b(?:turn|switch|shut)(?:ing)?\b{_REST}{{0,40}}\boff\b"
    rf"|\b(?:remove|delete|drop|erase)\b{_REST}*|\b(?:take|get|strike)\b{_REST}{{0,40}}\boff\b"
    r"|\bget (?:me )?(?:rid|out) of\b"
    rf"|\bno (?:more|longer)\b{_REST}*|\b(?:not|aren't|isn't) (?:\w+ )?interested\b{_REST}*"
    r"|\b(?:do not|don't|dont|doesn't|never|not) (?:please |ever |really |want (?:you )?to |wish to |like to )?"
    r"(?:want|wish|need|like|care|send|e-?mail|text|sms|mail|contact|message|spam|bother|sign|subscribe)\b"
    rf"{_REST}*"
    r"|\bstill (?:get|receiv|send|com|be)\w*|\bleave me alone\b",
    re.ASCII,
)
_STARTS = re.compile(
    r"[订定]阅|重新订|订回来|(?:继续|再|想|要|想要)订(?!单)"
    rf"|(?:怎么|如何|哪儿|哪里|在哪|帮我|给我|咋|可以){_REST}{{0,6}}订(?!单)"
    r"|想(?:要|再|重新|继续)?收|开通|打开|开启|加入|加到|通知我|提醒我|恢复|(?:想|要|能|可以|愿意|继续)接收|用新?邮箱接收"
    r"|\b(?:re-?)?su[bs][a-z]*be\b|\bsign (?:me |us )?up\b|\bopt(?: me)? in\b|\bjoin\b|\b(?:turn|switch) on\b"
    r"|\b(?:add|put) me (?:back|on)\b|\badd me to\b|\bkeep me (?:posted|updated|informed)\b"
    r"|\b(?:let me know|notify me|enable)\b"
    rf"|\b(?:want|like|love|can i|could i|may i|how do i|how can i)\b{_REST}{{0,25}}"
    r"\b(?:get|receive|recieve|have|hear|be (?:notified|told|informed))\b"
    r"|^(?:please |pls |could you |can you )?(?:send|e-?mail|text) me\b",
    re.ASCII,
)


def subscribes(text: str) -> bool | None:
    """Return whether the customer wants the newsletter; None if the text isn't clear."""
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_SIMPLIFIED).replace("’", "'")
    if _UNSURE.search(plain):
        return None
    rest, stops = _STOPS.subn(" ", _BEFORE.sub(" ", plain))
    starts = _STARTS.search(rest) is not None
    return starts if bool(stops) != starts else None
