"""What is said about an account, without a network."""

import asyncio

import pytest
from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.accounts import account_tasks
from actions.shop import NotFound, Refused, reading
from kefu.errors import ActionFailed
from ops.local.shop.demo_policies import POLICIES

ALICE = {"tenant": "demo", "user": "alice", "identified": True}
GUEST = {"tenant": "demo", "user": "guest-1", "identified": False}


class FakeShop:
    """Gives one answer to every call."""

    def __init__(self, answer: object = None) -> None:
        self._answer = answer

    def __getattr__(self, _: str):
        async def call(*_: object, **__: object) -> object:
            return self._answer

        return call


def told(name: str, who: dict, answer: object = None, **slots: object) -> dict:
    """Return what an action utters: the response and its blanks."""
    action = next(each for each in account_tasks(FakeShop(answer)) if each.name() == name)
    tracker = Tracker("demo:x", slots, {"metadata": who}, [], False, None, {}, "action_listen")
    dispatcher = CollectingDispatcher()
    asyncio.run(action.run(dispatcher, tracker, {}))
    (message,) = dispatcher.messages
    return message


def said(*asked: object, **slots: object) -> str:
    """Return the response alone."""
    return told(*asked, **slots)["response"]


def test_a_guest_who_forgot_the_password_is_not_told_to_sign_in():
    assert said("action_reset_password", GUEST) == "utter_reset_password_guest"
    assert said("action_newsletter", GUEST) == "utter_sign_in_first"


@pytest.mark.parametrize(
    ("action", "reason"),
    [("add_address", "bad_address"), ("add_address", "too_many"), ("change_name", "bad_name")],
)
def test_a_refusal_is_told_as_what_it_is(action, reason):
    slots = {"new_address": "1 Larch Street", "account_name": "Ann"}
    assert said(f"action_{action}", ALICE, Refused(reason), **slots) == f"utter_{action}_refused_{reason}"


def test_a_refusal_that_nobody_wrote_an_answer_for_makes_the_action_fail():
    with pytest.raises(ActionFailed):
        said("action_newsletter", ALICE, Refused("on_holiday"), wants_newsletter=True)


def test_an_account_that_is_gone_is_told_as_such():
    assert said("action_newsletter", ALICE, NotFound(), wants_newsletter=True) == "utter_account_not_found"


def test_the_days_until_an_account_is_deleted_are_the_shops():
    rules = reading.policies(POLICIES | {"account_deleted_after_days": 30})
    asked = told("action_ask_delete_account_form_confirmed", ALICE, rules)
    assert (asked["response"], asked["days"]) == ("utter_ask_delete_account", 30)
