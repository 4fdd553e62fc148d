"""The time of a call back as customers give it, and the responses to it."""

import asyncio
from datetime import datetime

import pytest
from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.callbacks import SHOP_ZONE, RequestCallback, moment, when
from actions.shop import Refused, parsing
from ops.local.shop.demo_policies import POLICIES

SATURDAY_NOON = datetime(2026, 11, 21, 12, 0, tzinfo=SHOP_ZONE)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-22 15:00 明天下午三点", "2026-11-22 15:00"),
        ("15:00 下午三点", "15:00"),
        ("2026-11-22 明天", "2026-11-22 10:00"),
        ("2026-11-22 tomorrow evening", "2026-11-22 19:00"),
        ("今天下午", "15:00"),
        ("as soon as possible", "soon"),
        ("随时都行", "soon"),
        ("hmm, what", None),
        ("25:00", None),
        ("99:99 明天", None),
        ("2026-02-30 15:00", None),
        ("2026-02-30", None),
        ("", None),
    ],
)
def test_call_back_time_is_read_from_a_text(text, time):
    assert when(text) == time


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("15:00", "2026-11-21T15:00"),
        ("10:00", "2026-11-22T10:00"),  # ten o'clock has passed today
        ("2026-11-20 10:00", "2026-11-27T10:00"),  # Friday: the next one
        ("2026-11-23 09:30", "2026-11-23T09:30"),
        ("2026-11-21 09:00", "2026-11-21T09:00"),  # today by name stays today, and the shop refuses it
        ("2026-10-01 09:00", "2026-10-01T09:00"),
    ],
)
def test_call_back_time_without_a_date_is_after_the_message(text, at):
    assert moment(text, SATURDAY_NOON) == datetime.fromisoformat(at).replace(tzinfo=SHOP_ZONE)


def test_call_back_as_soon_as_possible_has_no_fixed_time():
    assert moment("soon", SATURDAY_NOON) is None


class ClosedShop:
    """Refuses every time of a call."""

    async def open_ticket(self, *_, **__):
        return Refused("bad_call_at")

    async def policies(self, _):
        return parsing.policies(POLICIES)


@pytest.mark.parametrize(
    ("text", "response", "hours"),
    [
        ("03:00", "utter_callback_closed", POLICIES["service"]["hours"]["zh"]),
        ("2026-01-05 10:00", "utter_callback_over", None),
    ],
)
def test_refused_call_back_time_gets_the_fitting_response(text, response, hours):
    """The time has passed, or it is outside the service hours, which the response then names."""
    message = {"metadata": {"tenant": "demo", "user": "alice", "identified": True}}
    tracker = Tracker("demo:x", {"callback_time": text}, message, [], False, None, {}, "action_listen")
    dispatcher = CollectingDispatcher()
    asyncio.run(RequestCallback(ClosedShop()).run(dispatcher, tracker, {}))
    (message,) = dispatcher.messages
    assert (message["response"], message.get("hours")) == (response, hours)
