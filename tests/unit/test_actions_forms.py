"""The slots that a form reads from a message, and the messages that it leaves to other policies. No network."""

import asyncio

import pytest
from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions import eligibility
from actions.forms import task_forms
from tests.shop_samples import sample_order

ALICE = {"tenant": "demo", "user": "alice", "identified": True, "message_id": "m1"}
CANCELLABLE = sample_order(status="processing", cancellable=True, items_changeable=True, address_changeable=True)
OFFER = {"event": "bot", "metadata": {"utter_action": "utter_offer_person"}}


class FakeShop:
    """Has one order; counts how often it is looked up."""

    def __init__(self) -> None:
        self.lookups = 0

    async def order(self, *_: object) -> object:
        self.lookups += 1
        return CANCELLABLE


def read(form: str, text: str, intent: str, *, before: list | None = None, after: list | None = None, **more: object):
    """Run a form on a message; return the slots that it sets, the responses that it utters, and the shop.

    `asked` is the slot that the form asked for before the message; without it the form opens with the message.
    """
    shop, entities, confidence = FakeShop(), more.pop("entities", {}), more.pop("confidence", 1.0)
    asked, slots = more.pop("asked", None), {"language": "en", **more}
    opens = [] if asked else [{"event": "active_loop", "name": form}]
    history = [*(before or []), {"event": "user"}, *opens, *(after or []), {"event": "action", "name": form}]
    message = {
        "text": text,
        "intent": {"name": intent, "confidence": confidence},
        "entities": [
            {"entity": name, "value": value, "start": 0, "end": len(text) * 3 // 5} for name, value in entities.items()
        ],
        "metadata": ALICE,
    }
    # When a form opens, `requested_slot` still has the slot that another form asked for.
    slots["requested_slot"] = asked or slots.get("requested_slot")
    tracker = Tracker("demo:x", slots, message, history, False, None, {"name": form}, "action_listen")
    dispatcher = CollectingDispatcher()
    checks = next(each for each in task_forms(shop) if each.form == form)
    events = asyncio.run(checks.run(dispatcher, tracker, {}))
    responses = [message["response"] for message in dispatcher.messages]
    return {event["name"]: event["value"] for event in events}, responses, shop


NUMBER = {"order_number": "20260001"}
OLD_VALUES = {
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
def test_opening_form_keeps_only_the_order_of_the_task_before(form, intent, asks, requested):
    """Slots of the task before would otherwise answer the new form's questions."""
    slots, _, _ = read(form, "please", intent, requested_slot=requested, **OLD_VALUES, **NUMBER)
    assert slots["requested_slot"] == asks
    assert slots[asks] is None
    assert "order_number" not in slots


def test_running_form_keeps_the_values_that_it_has():
    slots, _, _ = read("change_order_form", "yes", "affirm", asked="confirmed", new_quantity=3, **NUMBER)
    assert slots == {"confirmed": True, "requested_slot": None}


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("where is 20260007?", "track_order"),
        ("let me talk to a human about 20260007", "contact_human_agent"),
        ("what does cancelling 20260007 cost", "check_cancellation_fee"),
    ],
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_another_topic_changes_no_slot_even_if_it_names_an_order(text, intent, language):
    """A form waits for a yes; the customer asks about another order, and other policies answer."""
    given = {"order_number": "20260007"}
    slots = {"about": "耳机 × 1", "language": language, **NUMBER}
    slots, responses, shop = read("cancel_order_form", text, intent, asked="confirmed", entities=given, **slots)
    assert (slots, responses, shop.lookups) == ({"requested_slot": "confirmed"}, [], 0)


def test_repeated_question_uses_the_current_language():
    """After an answer to another question the form asks again, now in English."""
    answered = [{"event": "action", "name": "action_answer_question"}]
    slots, _, _ = read(
        "cancel_order_form", "how long?", "delivery_period", asked="confirmed", after=answered, about="耳机", **NUMBER
    )
    assert slots["about"] == "Thermos mug × 2"
    assert slots["requested_slot"] == "confirmed"


@pytest.mark.parametrize(("intent", "confirmed"), [("affirm", True), ("deny", False)])
def test_yes_or_no_that_repeats_the_order_number_counts(intent, confirmed):
    slots, _, _ = read("cancel_order_form", "…20260001", intent, asked="confirmed", entities=NUMBER, **NUMBER)
    assert (slots["confirmed"], slots["requested_slot"]) == (confirmed, None)


def test_yes_that_repeats_the_task_counts():
    text = "yes, cancel 20260001"
    slots, _, _ = read("cancel_order_form", text, "cancel_order", asked="confirmed", entities=NUMBER, **NUMBER)
    assert (slots["confirmed"], slots["requested_slot"]) == (True, None)


def test_yes_with_low_confidence_confirms_nothing():
    slots, _, _ = read("delete_account_form", "-3", "affirm", asked="confirmed", confidence=0.57)
    assert slots == {"requested_slot": "confirmed"}


@pytest.mark.parametrize("intent", ["affirm", "deny", "inform", "cancel_order"])
def test_yes_with_another_order_number_is_asked_again(intent):
    """The form takes the new number and asks for the confirmation once more."""
    other = {"order_number": "20260007"}
    slots, _, _ = read("cancel_order_form", "…20260007", intent, asked="confirmed", entities=other, **NUMBER)
    assert (slots["order_number"], slots.get("confirmed"), slots["requested_slot"]) == ("20260007", None, "confirmed")


def test_complaint_keeps_the_order_that_it_names():
    text = "the courier threw parcel 20260007 over the fence"
    slots, _, _ = read("complaint_form", text, "review", asked="complaint_text", entities={"order_number": "20260007"})
    assert slots == {"order_number": "20260007", "complaint_text": text, "requested_slot": None}


def test_values_of_the_first_message_are_not_asked_again():
    slots, _, _ = read("change_order_form", "把20260001的数量改成3个", "change_order", entities=NUMBER)
    assert (slots["order_number"], slots["new_quantity"], slots["requested_slot"]) == ("20260001", 3, "confirmed")


@pytest.mark.parametrize("intent", ["deny", "inform", "change_order", "nlu_fallback"])
def test_correction_instead_of_a_yes_is_read_and_confirmed(intent):
    """The customer corrects the quantity; the form takes it and asks for the confirmation again."""
    slots, _, _ = read("change_order_form", "不对，要三个", intent, asked="confirmed", new_quantity=2, **NUMBER)
    assert (slots["new_quantity"], slots.get("confirmed"), slots["requested_slot"]) == (3, None, "confirmed")


@pytest.mark.parametrize("text", ["-3", "1.5", "再加两个"])
def test_impossible_quantity_is_reported_and_asked_again(text):
    slots, responses, _ = read("change_order_form", text, "inform", asked="new_quantity", **NUMBER)
    assert (slots["requested_slot"], responses) == ("new_quantity", ["utter_invalid_new_quantity"])


def test_typed_yes_after_the_offer_of_a_person_confirms_nothing():
    """The assistant has just offered a person within the form, so the yes is ambiguous."""
    offered = [{"event": "user"}, OFFER]
    slots, _, _ = read("delete_account_form", "yes", "affirm", asked="confirmed", before=offered)
    assert slots == {"requested_slot": "confirmed"}


def test_button_yes_after_the_offer_of_a_person_confirms():
    """The button belongs to the form's question."""
    offered = [{"event": "user"}, OFFER]
    slots, _, _ = read("delete_account_form", "/affirm", "affirm", asked="confirmed", before=offered)
    assert slots == {"confirmed": True, "requested_slot": None}


def test_invoice_title_needs_a_yes():
    slots, _, _ = read("invoice_form", "Ann Lee", "inform", asked="invoice_title", **NUMBER)
    assert (slots["invoice_title"], slots["requested_slot"]) == ("Ann Lee", "confirmed")


@pytest.mark.parametrize(("text", "intent"), [("我不知道", "nlu_fallback"), ("随便", "inform"), ("公司", "inform")])
def test_evasive_words_are_no_invoice_title(text, intent):
    slots, responses, _ = read("invoice_form", text, intent, asked="invoice_title", **NUMBER)
    assert (slots["invoice_title"], slots["requested_slot"]) == (None, "invoice_title")
    assert responses == ["utter_invalid_invoice_title"]


@pytest.mark.parametrize(
    ("form", "slot", "text", "corrected"),
    [
        ("invoice_form", "invoice_title", "不对，抬头是李晓明", "李晓明"),
        ("change_address_form", "new_address", "no, it's 12 Larch Street, London", "12 Larch Street, London"),
        ("refund_form", "refund_reason", "不对，是因为尺寸不合适", "尺寸不合适"),
    ],
)
def test_free_text_can_be_corrected_instead_of_a_yes(form, slot, text, corrected):
    slots, _, _ = read(form, text, "deny", asked="confirmed", **{slot: "what was first"}, **NUMBER)
    assert (slots[slot], slots.get("confirmed")) == (corrected, None)


@pytest.mark.parametrize(("state", "allowed"), [("none", True), ("requested", True), ("issued", False)])
def test_invoice_can_be_requested_until_it_is_issued(state, allowed):
    assert isinstance(eligibility.invoice(sample_order(invoice=state), "en"), dict) is allowed


def test_call_back_time_is_read_from_a_message_of_any_intent():
    text = "tomorrow at 3 pm"
    slots, _, _ = read("callback_form", text, "goodbye", asked="callback_time", entities={"time": "15:00"})
    assert (slots["callback_time"], slots["requested_slot"]) == ("15:00", None)


def test_wish_for_a_person_is_not_read_as_a_time():
    slots, _, _ = read("callback_form", "now get me a human being", "contact_human_agent", asked="callback_time")
    assert slots == {"requested_slot": "callback_time"}


def test_refund_reason_classified_as_a_no_is_a_reason():
    """NLU takes "it doesn't fit" for a no."""
    slots, _, _ = read("refund_form", "it doesn't fit", "deny", asked="refund_reason", **NUMBER)
    assert slots["refund_reason"] == "it doesn't fit"
