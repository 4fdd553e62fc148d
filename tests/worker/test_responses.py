"""The wording of an answer: what fits, and not what the customer has just heard."""

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


async def test_who_asks_again_hears_every_wording_before_one_comes_twice(tracker):
    said = [(await say(tracker, "utter_shipped", number="20260001"))["text"] for _ in range(9)]
    assert set(said[:3]) == {"20260001 已发货", "您的 20260001 在路上", "20260001 已经寄出"}
    assert said[3:6] == said[6:9] == said[:3]


async def test_where_one_wording_fits_it_is_said_again(tracker):
    tracker.update(SlotSet("language", "en"))
    said = {(await say(tracker, "utter_shipped", number="20260001"))["text"] for _ in range(3)}
    assert said == {"20260001 is on its way"}


async def test_none_fits_where_the_language_has_none(tracker):
    tracker.update(SlotSet("language", "fr"))
    assert await QuickResponses(RESPONSES).generate("utter_shipped", tracker, "kafka", number="1") is None
    assert await QuickResponses(RESPONSES).generate("utter_unknown", tracker, "kafka") is None


async def test_answers_without_a_text_take_turns_too(tracker):
    said = [await say(tracker, "utter_picture") for _ in range(4)]
    assert {message.get("text") for message in said[:2]} == {None, "no picture"}
