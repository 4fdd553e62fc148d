"""What a form takes from a message, and what it leaves to others, without a network."""

import asyncio

import pytest
from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions import looks
from actions.forms import task_forms
from actions.shop import ShopUnavailable
from tests.shop_samples import sample_order

ALICE = {"tenant": "demo", "user": "alice", "identified": True, "message_id": "m1"}
CANCELLABLE = sample_order(status="processing", cancellable=True, items_changeable=True, address_changeable=True)
OFFER = {"event": "bot", "metadata": {"utter_action": "utter_offer_person"}}


class FakeShop:
    """Has one order; can be away."""

    def __init__(self) -> None:
        self.looked = 0
        self.away = False

    async def order(self, *_: object) -> object:
        self.looked += 1
        if self.away:
            raise ShopUnavailable("order", "ReadTimeout")
        return CANCELLABLE


def hear(form: str, text: str, intent: str, *, before: list | None = None, after: list | None = None, **more: object):
    """Let a form hear a message within it (`asked`) or as its first; return what it sets and says, and the shop."""
    shop, entities, confidence = FakeShop(), more.pop("entities", {}), more.pop("confidence", 1.0)
    asked, slots = more.pop("asked", None), {"language": "en", **more}
    opens = [] if asked else [{"event": "active_loop", "name": form}]
    events = [*(before or []), {"event": "user"}, *opens, *(after or []), {"event": "action", "name": form}]
    message = {
        "text": text,
        "intent": {"name": intent, "confidence": confidence},
        "entities": [
            {"entity": name, "value": value, "start": 0, "end": len(text) * 3 // 5} for name, value in entities.items()
        ],
        "metadata": ALICE,
    }
    # At the opening the slot that another form had asked for is still there.
    slots["requested_slot"] = asked or slots.get("requested_slot")
    tracker = Tracker("demo:x", slots, message, events, False, None, {"name": form}, "action_listen")
    dispatcher = CollectingDispatcher()
    checks = next(each for each in task_forms(shop) if each.form == form)
    made = asyncio.run(checks.run(dispatcher, tracker, {}))
    return {event["name"]: event["value"] for event in made}, [said["response"] for said in dispatcher.messages], shop


NUMBER = {"order_number": "20260001"}
LEFT_BEHIND = {
    "confirmed": True,
    "new_address": "1 Old Road",
    "account_name": "Ann",
    "callback_time": "15:00",
    "new_quantity": 7,
    "refund_reason": "too small for me",
    "complaint_text": "it came late and broken",
    "invoice_title": "Ann Lee",
    "wants_newsletter": True,
}


@pytest.mark.parametrize(
    ("form", "intent", "asks"),
    [
        ("delete_account_form", "delete_account", "confirmed"),
        ("cancel_order_form", "cancel_order", "confirmed"),
        ("add_address_form", "set_up_shipping_address", "new_address"),
        ("change_name_form", "change_name", "account_name"),
        ("callback_form", "request_callback", "callback_time"),
        ("change_order_form", "change_order", "new_quantity"),
        ("change_address_form", "change_shipping_address", "new_address"),
        ("complaint_form", "complaint", "complaint_text"),
        ("newsletter_form", "newsletter_subscription", "wants_newsletter"),
    ],
)
@pytest.mark.parametrize("requested", [None, "confirmed"])
def test_a_form_that_opens_takes_nothing_from_the_task_before_but_the_order(form, intent, asks, requested):
    made, _, _ = hear(form, "please", intent, requested_slot=requested, **LEFT_BEHIND, **NUMBER)
    assert made["requested_slot"] == asks
    assert made[asks] is None
    assert "order_number" not in made


def test_within_a_form_what_was_given_is_kept():
    made, _, _ = hear("change_order_form", "yes", "affirm", asked="confirmed", new_quantity=3, **NUMBER)
    assert made == {"confirmed": True, "requested_slot": None}


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("where is 20260007?", "track_order"),
        ("let me talk to a human about 20260007", "contact_human_agent"),
        ("what does cancelling 20260007 cost", "check_cancellation_fee"),
    ],
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_another_topic_passes_though_it_names_an_order_or_changes_the_language(text, intent, language):
    given = {"order_number": "20260007"}
    slots = {"about": "耳机 × 1", "language": language, **NUMBER}
    made, said, shop = hear("cancel_order_form", text, intent, asked="confirmed", entities=given, **slots)
    assert (made, said, shop.looked) == ({"requested_slot": "confirmed"}, [], 0)


def test_after_a_question_was_answered_the_forms_own_is_told_in_the_language_of_now():
    answered = [{"event": "action", "name": "action_answer_question"}]
    made, _, _ = hear(
        "cancel_order_form", "how long?", "delivery_period", asked="confirmed", after=answered, about="耳机", **NUMBER
    )
    assert made["about"] == "Thermos mug × 2"
    assert made["requested_slot"] == "confirmed"


@pytest.mark.parametrize(("intent", "confirmed"), [("affirm", True), ("deny", False)])
def test_a_yes_or_no_that_names_the_same_order_counts(intent, confirmed):
    made, _, _ = hear("cancel_order_form", "…20260001", intent, asked="confirmed", entities=NUMBER, **NUMBER)
    assert (made["confirmed"], made["requested_slot"]) == (confirmed, None)


def test_a_yes_that_says_the_task_again_counts():
    text = "yes, cancel 20260001"
    made, _, _ = hear("cancel_order_form", text, "cancel_order", asked="confirmed", entities=NUMBER, **NUMBER)
    assert (made["confirmed"], made["requested_slot"]) == (True, None)


def test_what_only_sounds_a_little_like_a_yes_confirms_nothing():
    made, _, _ = hear("delete_account_form", "-3", "affirm", asked="confirmed", confidence=0.57)
    assert made == {"requested_slot": "confirmed"}


@pytest.mark.parametrize("intent", ["affirm", "deny", "inform", "cancel_order"])
def test_a_yes_or_no_that_names_another_order_is_asked_for_again(intent):
    other = {"order_number": "20260007"}
    made, _, _ = hear("cancel_order_form", "…20260007", intent, asked="confirmed", entities=other, **NUMBER)
    assert (made["order_number"], made.get("confirmed"), made["requested_slot"]) == ("20260007", None, "confirmed")


def test_a_complaint_keeps_the_order_that_it_names():
    text = "the courier threw parcel 20260007 over the fence"
    made, _, _ = hear("complaint_form", text, "review", asked="complaint_text", entities={"order_number": "20260007"})
    assert made == {"order_number": "20260007", "complaint_text": text, "requested_slot": None}


def test_what_is_said_in_the_first_message_is_not_asked_again():
    made, _, _ = hear("change_order_form", "把20260001的数量改成3个", "change_order", entities=NUMBER)
    assert (made["order_number"], made["new_quantity"], made["requested_slot"]) == ("20260001", 3, "confirmed")


@pytest.mark.parametrize("intent", ["deny", "inform", "change_order", "nlu_fallback"])
def test_a_correction_at_the_question_for_a_yes_is_taken_and_asked_about(intent):
    made, _, _ = hear("change_order_form", "不对，要三个", intent, asked="confirmed", new_quantity=2, **NUMBER)
    assert (made["new_quantity"], made.get("confirmed"), made["requested_slot"]) == (3, None, "confirmed")


@pytest.mark.parametrize("text", ["-3", "1.5", "再加两个"])
def test_a_quantity_that_can_not_be_is_said_to_and_asked_again(text):
    made, said, _ = hear("change_order_form", text, "inform", asked="new_quantity", **NUMBER)
    assert (made["requested_slot"], said) == ("new_quantity", ["utter_invalid_new_quantity"])


def test_a_typed_yes_right_after_a_person_was_offered_confirms_nothing():
    offered = [{"event": "user"}, OFFER]
    made, _, _ = hear("delete_account_form", "yes", "affirm", asked="confirmed", before=offered)
    assert made == {"requested_slot": "confirmed"}


def test_a_yes_by_the_questions_own_button_confirms_though_a_person_was_offered():
    offered = [{"event": "user"}, OFFER]
    made, _, _ = hear("delete_account_form", "/affirm", "affirm", asked="confirmed", before=offered)
    assert made == {"confirmed": True, "requested_slot": None}


def test_the_title_of_an_invoice_is_asked_about_before_it_is_written():
    made, _, _ = hear("invoice_form", "Ann Lee", "inform", asked="invoice_title", **NUMBER)
    assert (made["invoice_title"], made["requested_slot"]) == ("Ann Lee", "confirmed")


@pytest.mark.parametrize(("text", "intent"), [("我不知道", "nlu_fallback"), ("随便", "inform"), ("公司", "inform")])
def test_words_that_put_off_are_no_title(text, intent):
    made, said, _ = hear("invoice_form", text, intent, asked="invoice_title", **NUMBER)
    assert (made["invoice_title"], made["requested_slot"]) == (None, "invoice_title")
    assert said == ["utter_invalid_invoice_title"]


@pytest.mark.parametrize(
    ("form", "slot", "text", "corrected"),
    [
        ("invoice_form", "invoice_title", "不对，抬头是李晓明", "李晓明"),
        ("change_address_form", "new_address", "no, it's 12 Larch Street, London", "12 Larch Street, London"),
        ("refund_form", "refund_reason", "不对，是因为尺寸不合适", "尺寸不合适"),
    ],
)
def test_what_was_given_in_words_is_corrected_at_the_question_for_a_yes(form, slot, text, corrected):
    made, _, _ = hear(form, text, "deny", asked="confirmed", **{slot: "what was first"}, **NUMBER)
    assert (made[slot], made.get("confirmed")) == (corrected, None)


@pytest.mark.parametrize(("state", "allowed"), [("none", True), ("requested", True), ("issued", False)])
def test_an_invoice_may_be_asked_for_until_it_is_issued(state, allowed):
    assert isinstance(looks.invoice(sample_order(invoice=state), "en"), dict) is allowed


def test_a_time_is_heard_though_it_sounds_like_something_else():
    text = "tomorrow at 3 pm"
    made, _, _ = hear("callback_form", text, "goodbye", asked="callback_time", entities={"time": "15:00"})
    assert (made["callback_time"], made["requested_slot"]) == ("15:00", None)


def test_a_person_is_asked_for_though_the_message_names_a_time():
    made, _, _ = hear("callback_form", "now get me a human being", "contact_human_agent", asked="callback_time")
    assert made == {"requested_slot": "callback_time"}


def test_a_reason_that_sounds_like_a_no_is_one():
    made, _, _ = hear("refund_form", "it doesn't fit", "deny", asked="refund_reason", **NUMBER)
    assert made["refund_reason"] == "it doesn't fit"
