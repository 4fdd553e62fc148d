"""Requests about the newsletter: no phrase is read as its opposite, and unclear phrases are asked back."""

from pathlib import Path

import pytest

from actions.newsletter import subscribes
from tests.dialogue.phrases import phrases

ROOT = Path(__file__).resolve().parents[2]
MEANT = {"+": True, "-": False, "?": None}
TABLE = {
    line[2:]: MEANT[line[0]]
    for line in Path(__file__).with_name("newsletter_phrases.txt").read_text(encoding="utf-8").splitlines()
    if line[0] in MEANT
}
DATA = [*sorted((ROOT / "data" / "nlu").glob("*.yml")), ROOT / "tests" / "dialogue" / "nlu_heldout.yml"]
PHRASES = [text for intent, text in phrases(*DATA) if intent == "newsletter_subscription"]


def test_table_of_meanings_has_every_newsletter_phrase():
    assert set(PHRASES) <= set(TABLE)


@pytest.mark.parametrize("phrase", PHRASES)
def test_newsletter_phrase_is_never_read_as_its_opposite(phrase):
    assert subscribes(phrase) in (TABLE.get(phrase), None)


def test_under_a_tenth_of_newsletter_phrases_is_unclear():
    asked = [phrase for phrase in PHRASES if subscribes(phrase) is None]
    assert len(asked) < 0.1 * len(PHRASES), asked


@pytest.mark.parametrize(
    "phrase",
    [
        "退订", "please unsubscribe me", "I don't want to receive your emails any more", "do not send me newsletters",
        "怎么关闭推送", "我不接收优惠信息", "关闭营销推送", "从来没订阅过，为什么给我发广告，退掉",
        "I get too much advertising from you, turn it off", "别给我推送了", "I don’t want to get it again",
        "不小心订阅了，帮我取消", "I subscribed by mistake, stop it please", "已经退订了怎么还给我发",
    ],
)  # fmt: skip
def test_unsubscribing_phrase_is_read_as_such(phrase):
    assert subscribes(phrase) is False


@pytest.mark.parametrize(
    "phrase",
    [
        "我想订阅", "sign me up", "之前手滑退订了，想重新订阅", "accidentally unsubscribed, can you add me back",
        "i unsubscribed by mistake, can i have the newsletter again", "特别想订阅你们的周刊", "帮我subscribe一下",
    ],
)  # fmt: skip
def test_subscribing_phrase_is_read_as_such(phrase):
    assert subscribes(phrase) is True


@pytest.mark.parametrize(
    "phrase",
    [
        "嗯", "newsletter", "别退订", "please don't unsubscribe me", "am I subscribed?",
        "我是不是退订了", "I don't want to miss your newsletter", "I'd still like emails but no text promotions",
    ],
)  # fmt: skip
def test_unclear_newsletter_phrase_is_asked_back(phrase):
    assert subscribes(phrase) is None
