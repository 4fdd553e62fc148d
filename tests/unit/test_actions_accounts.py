"""The responses of the tasks about accounts, without a network."""

import asyncio

import pytest
from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.accounts import account_tasks
from actions.shop import NotFound, Refused, parsing
from kefu.errors import ActionFailed
from ops.local.shop.demo_policies import POLICIES

ALICE = {"tenant": "demo", "user": "alice", "identified": True}
GUEST = {"tenant": "demo", "user": "guest-1", "identified": False}


class FakeShop:
    """Returns the same answer to every call."""

    def __init__(self, answer: object = None) -> None:
        self._answer = answer

    def __getattr__(self, _: str):
        async def call(*_: object, **__: object) -> object:
            return self._answer

        return call


def uttered(name: str, who: dict, answer: object = None, **slots: object) -> dict:
    """Return the message that an action utters: the response and its blanks."""
    action = next(each for each in account_tasks(FakeShop(answer)) if each.name() == name)
    tracker = Tracker("demo:x", slots, {"metadata": who}, [], False, None, {}, "action_listen")
    dispatcher = CollectingDispatcher()
    asyncio.run(action.run(dispatcher, tracker, {}))
    (message,) = dispatcher.messages
    return message


def response(*asked: object, **slots: object) -> str:
    """Return the name of the response that an action utters."""
    return uttered(*asked, **slots)["response"]


def test_guest_without_password_is_not_told_to_sign_in():
    """Without a password nobody can sign in. For other tasks of an account a guest is told to sign in first."""
    assert response("action_reset_password", GUEST) == "utter_reset_password_guest"
    assert response("action_newsletter", GUEST) == "utter_sign_in_first"


@pytest.mark.parametrize(
    ("action", "reason"),
    [("add_address", "bad_address"), ("add_address", "too_many"), ("change_name", "bad_name")],
)
def test_each_refusal_of_an_account_task_has_its_own_response(action, reason):
    slots = {"new_address": "1 Larch Street", "account_name": "Ann"}
    assert response(f"action_{action}", ALICE, Refused(reason), **slots) == f"utter_{action}_refused_{reason}"


def test_refusal_without_a_response_fails_the_action():
    with pytest.raises(ActionFailed):
        response("action_newsletter", ALICE, Refused("on_holiday"), wants_newsletter=True)


def test_missing_account_has_its_own_response():
    assert response("action_newsletter", ALICE, NotFound(), wants_newsletter=True) == "utter_account_not_found"


def test_deletion_question_names_the_shops_number_of_days():
    rules = parsing.policies(POLICIES | {"account_deleted_after_days": 30})
    asked = uttered("action_ask_delete_account_form_confirmed", ALICE, rules)
    assert (asked["response"], asked["days"]) == ("utter_ask_delete_account", 30)
