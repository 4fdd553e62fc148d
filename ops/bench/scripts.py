"""The texts of the simulated customers: customer n's text at turn t, the same for all systems and on every machine.

Phrases come from the project's own `data/nlu`. Each gets a random beginning and end, so that few texts come twice:
a system that remembers results of earlier texts must not gain more than it would from real customers.
"""

import random
import re
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, Tuple

ROOT = Path(__file__).resolve().parents[2]
TALK, ORDERS = "talk", "orders"
# A conversation repeats its five turns as often as it is long. `orders` calls actions in two of five.
TURNS: Dict[str, Tuple[str, ...]] = {
    TALK: ("greet", "bot_challenge", "affirm", "thank", "goodbye"),
    ORDERS: ("greet", "order", "thank", "order", "goodbye"),
}
# The intents of the customers' texts. A question with an order number is `track_order`.
INTENTS = {"track_order"} | {step for turns in TURNS.values() for step in turns if step != "order"}
BEGINNINGS = {
    "zh": ("", "嗯，", "那个，", "额，", "哦，", "对了，", "诶，", "亲，", "你好，", "那"),
    "en": ("", "ok, ", "well, ", "um, ", "so, ", "right, ", "hey, ", "oh, ", "hm, ", "and "),
}
ENDS = {
    "zh": ("", "。", "！", "～", "…", "？", "啊", "呀", "哈", "哦", "嗯", "！！", "。。", " 😊", " 🙂", " 👍"),
    "en": ("", ".", "!", "...", "?", "!!", " :)", " ;)", " 😊", " 🙂", " 👍", " ok", " hm", " ..", " !", " :-)"),
}
ORDER_PHRASES = {
    "zh": ("我的订单{}到哪了", "查一下订单{}", "订单{}发货了吗", "帮我看看{}的物流", "我想查一下{}这个订单"),
    "en": ("where is my order {}", "track order {}", "has order {} been shipped", "check order {} for me"),
}
ORDER_NUMBERS = 50_000  # how many customers of the bench have an order
FIRST_ORDER = 20_270_000  # eight digits that begin with 20, as the actions read them; the demo's orders are below
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


def order_number(customer: int) -> str:
    """Return the number, of eight digits, of the only order of a customer of the bench."""
    return str(FIRST_ORDER + customer % ORDER_NUMBERS)


def text(script: str, customer: int, turn: int) -> str:
    """Return a customer's text at a turn, counted from 0. Even customers write Chinese, odd ones English."""
    steps = TURNS[script]
    step = steps[turn % len(steps)]
    language = "zh" if customer % 2 == 0 else "en"
    choice = random.Random(customer * 1_000_003 + turn)  # noqa: S311 - texts to try with, no secrets
    if step == "order":
        phrase = choice.choice(ORDER_PHRASES[language]).format(order_number(customer))
    else:
        phrase = choice.choice(phrases()[step, language])
    return choice.choice(BEGINNINGS[language]) + phrase + choice.choice(ENDS[language])


@lru_cache(1)
def phrases() -> Dict[Tuple[str, str], List[str]]:
    """Return the phrases of `data/nlu` by intent and language, without phrases that contain digits."""
    examples: Dict[Tuple[str, str], List[str]] = {}
    for path in sorted((ROOT / "data" / "nlu").glob("*.yml")):
        intent = ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip().startswith("- intent:"):
                intent = line.split(":")[1].strip()
            elif re.match(r"\s+- \S", line) and intent and not any(map(str.isdigit, line)):
                example = line.strip()[2:]
                language = "zh" if _CHINESE.search(example) else "en"
                examples.setdefault((intent, language), []).append(example)
    return examples
