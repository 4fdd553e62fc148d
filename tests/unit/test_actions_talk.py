"""Asking back in steps up to a person, without a network."""

import asyncio

import pytest
from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.talk import AnswerOffer, Clarify, HandOver, Repeat


def heard(intent: str) -> dict:
    return {"event": "user", "text": "x", "parse_data": {"intent": {"name": intent}}}


MISSED, UNDERSTOOD = heard("nlu_fallback"), heard("greet")


def filled(name: str, value: object) -> dict:
    return {"event": "slot", "name": name, "value": value}


def said(response: str) -> dict:
    return {"event": "bot", "text": response, "metadata": {"utter_action": response}, "data": {"buttons": None}}


def run(action, *events: dict, intent: str = "", loop: str | None = None) -> tuple[list[dict], list[str]]:
    """Return the events of the action and the responses that it utters."""
    message = {"intent_ranking": [], "intent": {"name": intent}}
    tracker = Tracker("demo:x", {}, message, list(events), False, None, {"name": loop} if loop else {}, "action_listen")
    dispatcher = CollectingDispatcher()
    made = asyncio.run(action.run(dispatcher, tracker, {}))
    return made, [message.get("response") or message["utter_action"] for message in dispatcher.messages]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([UNDERSTOOD, MISSED], ["utter_ask_rephrase"]),
        ([UNDERSTOOD, MISSED, MISSED], ["utter_offer_person"]),
        ([MISSED, MISSED, UNDERSTOOD, MISSED], ["utter_ask_rephrase"]),
        ([MISSED, MISSED, MISSED, {"event": "resume"}, MISSED], ["utter_ask_rephrase"]),
        ([MISSED, MISSED, filled("account_name", "Ann"), MISSED], ["utter_ask_rephrase"]),
        ([MISSED, filled("account_name", None), filled("requested_slot", "confirmed"), MISSED], ["utter_offer_person"]),
    ],
)
def test_it_asks_again_then_offers_a_person_and_counts_anew_after_one_was_there(events, expected) -> None:
    made, responses = run(Clarify(), *events)
    assert responses == expected
    assert all(event["event"] != "followup" for event in made)


def test_the_third_time_a_person_is_asked_for() -> None:
    made, responses = run(Clarify(), MISSED, MISSED, MISSED)
    assert responses == []
    assert {"event": "followup", "timestamp": None, "name": "action_hand_over"} in made


def test_the_shell_hands_over_in_the_platforms_words() -> None:
    made, responses = run(HandOver(), UNDERSTOOD)
    assert responses == ["utter_handoff_started"]
    assert [event["event"] for event in made] == ["slot", "pause"]


OFFERED = [MISSED, said("utter_offer_person"), said("utter_ask_cancel_order_form_confirmed")]


def test_a_yes_to_the_offer_within_a_form_leaves_the_form_for_a_person() -> None:
    made, responses = run(AnswerOffer(), *OFFERED, heard("affirm"), intent="affirm", loop="cancel_order_form")
    assert responses == []
    assert [(event["event"], event["name"]) for event in made] == [
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
def test_a_no_to_the_offer_leaves_everything_as_it_was(intent, loop, expected) -> None:
    made, responses = run(AnswerOffer(), *OFFERED, heard(intent), intent=intent, loop=loop)
    assert (responses, [(event["event"], event["name"]) for event in made]) == ([expected], [("slot", "offered")])


def test_an_offer_that_is_said_again_is_an_offer_still() -> None:
    _, again = run(Repeat(), MISSED, said("utter_offer_person"), heard("repeat"), intent="repeat")
    assert again == ["utter_offer_person"]
    made, _ = run(AnswerOffer(), heard("repeat"), said(*again), heard("affirm"), intent="affirm")
    assert made[-1]["event"] == "followup"
