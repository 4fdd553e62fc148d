"""Repeating replies, asking back in steps, and the offer of a person. No network."""

import asyncio

import pytest
from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.talk import AnswerOffer, Clarify, HandOver, Repeat


def user_message(intent: str) -> dict:
    return {"event": "user", "text": "x", "parse_data": {"intent": {"name": intent}}}


MISSED, UNDERSTOOD = user_message("nlu_fallback"), user_message("greet")


def slot(name: str, value: object) -> dict:
    return {"event": "slot", "name": name, "value": value}


def bot_message(response: str) -> dict:
    return {"event": "bot", "text": response, "metadata": {"utter_action": response}, "data": {"buttons": None}}


def run(action, *events: dict, intent: str = "", loop: str | None = None) -> tuple[list[dict], list[str]]:
    """Return the events of the action and the responses that it utters."""
    message = {"intent_ranking": [], "intent": {"name": intent}}
    tracker = Tracker("demo:x", {}, message, list(events), False, None, {"name": loop} if loop else {}, "action_listen")
    dispatcher = CollectingDispatcher()
    result = asyncio.run(action.run(dispatcher, tracker, {}))
    return result, [message.get("response") or message["utter_action"] for message in dispatcher.messages]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([UNDERSTOOD, MISSED], ["utter_ask_rephrase"]),
        ([UNDERSTOOD, MISSED, MISSED], ["utter_offer_person"]),
        ([MISSED, MISSED, UNDERSTOOD, MISSED], ["utter_ask_rephrase"]),
        ([MISSED, MISSED, MISSED, {"event": "resume"}, MISSED], ["utter_ask_rephrase"]),
        ([MISSED, MISSED, slot("account_name", "Ann"), MISSED], ["utter_ask_rephrase"]),
        (
            [MISSED, slot("account_name", None), slot("requested_slot", "confirmed"), MISSED],
            ["utter_offer_person"],
        ),
    ],
)
def test_clarify_asks_again_then_offers_a_person(events, expected) -> None:
    """NLU did not understand one message, or two in a row."""
    result, responses = run(Clarify(), *events)
    assert responses == expected
    assert all(event["event"] != "followup" for event in result)


def test_third_message_that_nlu_missed_hands_over() -> None:
    result, responses = run(Clarify(), MISSED, MISSED, MISSED)
    assert responses == []
    assert {"event": "followup", "timestamp": None, "name": "action_hand_over"} in result


def test_hand_over_in_the_shell_uses_the_workers_response() -> None:
    """`rasa shell` has no platform that would tell the customer."""
    result, responses = run(HandOver(), UNDERSTOOD)
    assert responses == ["utter_handoff_started"]
    assert [event["event"] for event in result] == ["slot", "pause"]


OFFERED = [MISSED, bot_message("utter_offer_person"), bot_message("utter_ask_cancel_order_form_confirmed")]


def test_yes_to_the_offer_within_a_form_leaves_the_form() -> None:
    """The assistant had offered a person, as a form went on; the yes ends the form and starts the hand-over."""
    result, responses = run(AnswerOffer(), *OFFERED, user_message("affirm"), intent="affirm", loop="cancel_order_form")
    assert responses == []
    assert [(event["event"], event["name"]) for event in result] == [
        ("slot", "offered"), ("active_loop", None), ("slot", "requested_slot"), ("followup", "action_hand_over"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("intent", "loop", "expected"),
    [
        ("deny", None, "utter_noted_no"),
        ("deny", "cancel_order_form", "utter_offer_declined"),
        ("decline_person", None, "utter_offer_declined"),
        ("decline_person", "cancel_order_form", "utter_offer_declined"),
    ],
)
def test_declined_offer_changes_only_the_slot_offered(intent, loop, expected) -> None:
    result, responses = run(AnswerOffer(), *OFFERED, user_message(intent), intent=intent, loop=loop)
    assert (responses, [(event["event"], event["name"]) for event in result]) == ([expected], [("slot", "offered")])


def test_repeated_offer_can_be_accepted() -> None:
    _, again = run(Repeat(), MISSED, bot_message("utter_offer_person"), user_message("repeat"), intent="repeat")
    assert again == ["utter_offer_person"]
    result, _ = run(AnswerOffer(), user_message("repeat"), bot_message(*again), user_message("affirm"), intent="affirm")
    assert result[-1]["event"] == "followup"
