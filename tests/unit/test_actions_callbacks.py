"""When a customer wants to be called, and what is said to it."""

import asyncio
from datetime import datetime

import pytest
from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.callbacks import SHOP_ZONE, RequestCallback, moment, when
from actions.shop import Refused, reading
from ops.local.shop.demo_policies import POLICIES

SATURDAY_NOON = datetime(2026, 11, 21, 12, 0, tzinfo=SHOP_ZONE)


@pytest.mark.parametrize(
    ("told", "found"),
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
def test_a_time_is_read(told, found):
    assert when(told) == found


@pytest.mark.parametrize(
    ("told", "at"),
    [
        ("15:00", "2026-11-21T15:00"),
        ("10:00", "2026-11-22T10:00"),  # ten o'clock is over today
        ("2026-11-20 10:00", "2026-11-27T10:00"),  # Friday: the next one
        ("2026-11-23 09:30", "2026-11-23T09:30"),
        ("2026-11-21 09:00", "2026-11-21T09:00"),  # today, said so: the shop refuses what is over
        ("2026-10-01 09:00", "2026-10-01T09:00"),
    ],
)
def test_a_moment_lies_ahead_of_the_message(told, at):
    assert moment(told, SATURDAY_NOON) == datetime.fromisoformat(at).replace(tzinfo=SHOP_ZONE)


def test_soon_is_no_moment():
    assert moment("soon", SATURDAY_NOON) is None


class ClosedShop:
    """Calls nobody at the time that is asked for."""

    async def open_ticket(self, *_, **__):
        return Refused("bad_call_at")

    async def policies(self, _):
        return reading.policies(POLICIES)


@pytest.mark.parametrize(
    ("told", "response", "hours"),
    [
        ("03:00", "utter_callback_closed", POLICIES["service"]["hours"]["zh"]),
        ("2026-01-05 10:00", "utter_callback_over", None),
    ],
)
def test_a_time_at_which_nobody_calls_is_refused_with_the_hours_or_as_over(told, response, hours):
    message = {"metadata": {"tenant": "demo", "user": "alice", "identified": True}}
    tracker = Tracker("demo:x", {"callback_time": told}, message, [], False, None, {}, "action_listen")
    dispatcher = CollectingDispatcher()
    asyncio.run(RequestCallback(ClosedShop()).run(dispatcher, tracker, {}))
    (said,) = dispatcher.messages
    assert (said["response"], said.get("hours")) == (response, hours)
