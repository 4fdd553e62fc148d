"""Finds persons' names by the words before and after them, because no list contains all names."""

import re
from typing import Iterator, Tuple

from kefu.worker.nlu.text import HAN

_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林高罗郑梁谢宋唐许邓韩冯曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟"
    "谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤温康施文牛樊葛邢安齐"
    "易乔伍庞颜倪庄聂章鲁岳翟殷詹申欧耿关兰焦俞左柳甘祝包宁尚符舒阮柯纪梅童凌毕单季裴霍涂成苗谷盛曲翁冉骆蓝路游辛靳"
    "管柴蒙鲍华喻祁蒲房滕屈饶解牟艾尤阳时穆农司卓古吉缪简车项连芦麦褚娄窦戚岑景党宫费卜冷晏席卫米柏宗瞿桂全佟应臧闵"
    "苟邬边卞姬师和仇栾隋商刁沙荣巫寇桑郎甄丛仲虞敖巩明佘池查麻苑迟邝"
)
_COMPOUND = "欧阳|上官|司马|诸葛|东方|皇甫|尉迟|公孙|慕容|司徒|端木|令狐"
_WORD = r"(?:[A-Z]'[A-Z][a-z]+|[A-Z][a-z]+(?:[-'][A-Z]?[a-z]+)?)"
_HAN_NAME = rf"(?:{_COMPOUND}|[{_SURNAMES}])[{HAN}]{{1,2}}"
_KIN = "妈|爸|妈妈|爸爸|老婆|老公|朋友|姐|哥|弟|妹|同事|儿子|女儿"
_ASKED = "姓名|名字|收件人|收货人|收货方|联系人|户名|抬头|购买人|下单人|署名"
_NAME_ZH = re.compile(
    rf"(?:我叫|名叫|叫做|叫我|叫|{_ASKED}|名为|本人|我(?:{_KIN}))(?:改成|改为|换成|写成|写|填)?(?:是|为|叫)?[:,\s]*"
    rf"(?P<name>{_HAN_NAME}?)(?=$|[^{HAN}]|的|收|和|电话|手机|号|吧|呢|啊|帮|住|在|了|就|下|不是)"
    rf"|(?:我是|应该是|是|改成|换成|给|name is|name:)\s?(?P<self>{_HAN_NAME}?)(?=$|[\s,.!?;]|收$|本人|的订单|不是)"
    rf"|(?:{_ASKED})(?:是|为|:)[:\s]*(?P<any>[{HAN}]{{2,5}})(?=$|[\s,.!?;])"
    rf"|(?:^|[\s,;:\d])(?P<alone>{_HAN_NAME})(?=收$|[\s,:]*(?:1[3-9]\d|\*{{4,}}))"
    rf"|(?:1[3-9]\d{{9}}|\*{{4,}}\d{{4}})[\s,;]+(?P<after>{_HAN_NAME})(?=$|[\s,.!?;])"
)
_NOT_NAMES = frozenset(
    (
        "何时 何人 周一 周二 周三 周四 周五 周六 周日 安全 方便 成功 时间 明天 明白 高兴 全部 连接 "
        "和你 应该 简单 商品 关于 包裹 包邮 查询 查单 解决 成都 武汉 江苏 安徽 沈阳 温州 路上 时候 "
        "文件 章程 项目 费用 白色 黄色 蓝色 金色 管理 游戏 任何 别人 易碎 "
    ).split()
)
_CUE_EN = (
    r"my (?:full )?name is|name is|name's|name to|name:|name|i'm|i am|this is|it's|not|under"
    r"|recipient(?: is)?:?|receiver(?: is)?:?|consignee:?|holder(?: is)?:?|called"
    r"|deliver(?:ed)? to|addressed to|attention|attn:?"
    r"|signed by|contact:?|mr\.?|mrs\.?|ms\.?"
    r"|my (?:sister|brother|wife|husband|mother|father|mom|mum|dad|friend|son|daughter|boss|colleague)|for|to"
)
_NAME_EN = re.compile(
    rf"(?:\b(?i:{_CUE_EN})[:,]? |(?:{_ASKED}|name|叫|我是)(?:是|为|:)?\s?)(?P<name>{_WORD}(?: {_WORD}){{0,2}})(?!\w)"
    r"|\b(?i:my (?:full )?name is) (?P<lower>[a-z]+(?: [a-z]+)?)(?=$|[,.!?;])"
    rf"|^(?P<alone>{_WORD} {_WORD}),? (?=(?:\+?86|1[3-9]\d|\*{{4,}}|here\b))"
    r"|\b(?:DELIVER TO|MY NAME IS|NAME IS|NAME:|THIS IS|RECIPIENT:?) (?P<capitals>[A-Z]{2,}(?: [A-Z]{2,}){1,2})"
)
_SINGLE_AFTER = re.compile(
    r"(?i)(?:name is|name's|name:|name|i'm|i am|this is|called) $|(?:名字|姓名|叫|收件人)[是:]?\s?$"
)
_NOT_ENGLISH_NAMES = frozenset(
    "Sorry Sure Not Very So Just Still Waiting Looking Trying Done Fine Good Happy Here From China Beijing Shanghai"
    " Hong Kong Monday Tuesday Wednesday Thursday Friday Saturday Sunday January February March April May June July"
    " August September October November December Visa Mastercard Alipay Wechat Paypal Express Please Thanks The This"
    " That My Your".split()
)


def names(text: str) -> Iterator[Tuple[int, int]]:
    """Yield the persons' names in `text` (folded)."""
    for found in _NAME_ZH.finditer(text):
        group = found.lastgroup or "name"
        if (
            found.group(group)[-1] not in "吗呢吧啊了的装么"
            and found.group(group) not in _NOT_NAMES
            and found.group(group)[:2] not in _NOT_NAMES
        ):
            yield found.span(group)
    for found in _NAME_EN.finditer(text):
        group = found.lastgroup or "name"
        words = found.group(group).title().split() if group != "name" else found.group(group).split()
        whole = len(words) > 1 or group == "lower" or _SINGLE_AFTER.search(text[: found.start(group)])
        if whole and not set(words) & _NOT_ENGLISH_NAMES:
            yield found.span(group)
