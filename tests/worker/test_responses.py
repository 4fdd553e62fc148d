"""The wording of a response: it fits the slots and differs from the one used last."""

import pytest
from rasa.shared.core.events import BotUttered, SlotSet, UserUttered
from rasa.shared.core.slots import TextSlot
from rasa.shared.core.trackers import DialogueStateTracker

from kefu.worker.act.responses import QuickResponses

ZH, EN = ([{"type": "slot", "name": "language", "value": each}] for each in ("zh", "en"))
RESPONSES = {
    "utter_shipped": [
        {"text": "{number} 已发货", "condition": ZH},
        {"text": "您的 {number} 在路上", "condition": ZH},
        {"text": "{number} 已经寄出", "condition": ZH},
        {"text": "{number} is on its way", "condition": EN},
    ],
    "utter_picture": [{"image": "a.png"}, {"text": "no picture"}],
}


@pytest.fixture
def tracker():
    slot = TextSlot("language", [{"type": "custom"}])
    made = DialogueStateTracker("demo:alice", [slot])
    made.update(SlotSet("language", "zh"))
    return made


async def say(tracker, name, **blanks):
    tracker.update(UserUttered("?"))
    message = await QuickResponses(RESPONSES).generate(name, tracker, "kafka", **blanks)
    tracker.update(BotUttered(message.get("text"), {"image": message.get("image")}))
    return message


async def test_every_wording_is_used_before_one_repeats(tracker):
    texts = [(await say(tracker, "utter_shipped", number="20260001"))["text"] for _ in range(9)]
    assert set(texts[:3]) == {"20260001 已发货", "您的 20260001 在路上", "20260001 已经寄出"}
    assert texts[3:6] == texts[6:9] == texts[:3]


async def test_only_fitting_wording_is_repeated(tracker):
    tracker.update(SlotSet("language", "en"))
    texts = {(await say(tracker, "utter_shipped", number="20260001"))["text"] for _ in range(3)}
    assert texts == {"20260001 is on its way"}


async def test_language_without_a_wording_gets_none(tracker):
    tracker.update(SlotSet("language", "fr"))
    assert await QuickResponses(RESPONSES).generate("utter_shipped", tracker, "kafka", number="1") is None
    assert await QuickResponses(RESPONSES).generate("utter_unknown", tracker, "kafka") is None


async def test_wordings_without_a_text_alternate_too(tracker):
    messages = [await say(tracker, "utter_picture") for _ in range(4)]
    assert {message.get("text") for message in messages[:2]} == {None, "no picture"}
