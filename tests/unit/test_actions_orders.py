"""Slots read by the form of an order, and the responses of the tasks about orders. No network."""

import asyncio
from datetime import UTC, date, datetime

import pytest
from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.formatting import day
from actions.forms import task_forms
from actions.idempotency import current_key
from actions.numbers import order_number, phone_last4
from actions.orders import CancelOrder, CheckPayment, TrackOrder
from actions.shop import Asker, NotFound, Payment, Refused, Ticket, TooManyAttempts
from kefu.errors import ActionFailed
from tests.shop_samples import SHIPPED, sample_order


class FakeShop:
    """Returns the given answer and records its calls."""

    def __init__(self, answer: object = SHIPPED) -> None:
        self.answer = answer
        self.calls: list[tuple] = []
        self.inquiries: list[tuple] = []
        self.tickets: list[str] = []

    async def order(self, *call: object) -> object:
        self.calls.append(call)
        return self.answer

    async def open_ticket(self, asker: Asker, kind: str, text: str, *_: object, **__: object) -> Ticket:
        self.tickets.append(text)
        return Ticket("T80000001", datetime(2026, 3, 1, tzinfo=UTC))

    async def cancel(self, *call: object) -> object:
        self.calls.append(call)
        return self.answer

    async def record_inquiry(self, *inquiry: str) -> None:
        self.inquiries.append(inquiry)


def tracker(metadata: dict | None = None, text: str = "", named: dict | None = None, **slots: object) -> Tracker:
    """Return the tracker of a form that asked for `requested_slot`, or opens if there is none."""
    opens = [] if slots.get("requested_slot") else [{"event": "active_loop", "name": "track_order_form"}]
    events = [{"event": "user"}, *opens, {"event": "action", "name": "track_order_form"}]
    entities = [{"entity": name, "value": value} for name, value in (named or {}).items()]
    message = {"text": text, "metadata": metadata, "entities": entities}
    return Tracker("demo:x", slots, message, events, False, None, {}, "action_listen")


ALICE = {"tenant": "demo", "user": "alice", "identified": True, "message_id": "m1"}
GUEST = {"tenant": "demo", "user": "guest-1", "identified": False, "message_id": "m1"}


def run(shop: FakeShop, asking: Tracker, key: str | None = "key-1", task: type = TrackOrder) -> tuple[list[dict], dict]:
    async def once() -> tuple[list[dict], dict]:
        current_key.set(key)
        dispatcher = CollectingDispatcher()
        events = await task(shop).run(dispatcher, asking, {})
        return dispatcher.messages, {event["name"]: event["value"] for event in events}

    return asyncio.run(once())


def validate(asking: Tracker) -> tuple[dict, list[str]]:
    dispatcher = CollectingDispatcher()
    form = next(each for each in task_forms(FakeShop()) if each.form == "track_order_form")
    events = asyncio.run(form.run(dispatcher, asking, {}))
    responses = [message["response"] for message in dispatcher.messages]
    return {event["name"]: event["value"] for event in events}, responses


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("20260001", "20260001"),
        ("我的订单20260001到哪了", "20260001"),
        ("２０２６０００１", "20260001"),
        ("order 2026 0001 please", "20260001"),
        ("2026-0001", "20260001"),
        ("20260001 or 20260002", "20260002"),
        ("不是20260001，是20260003", "20260003"),
        ("202600012", None),
        ("2026", None),
        ("*******1234", None),
        ("", None),
    ],
)
def test_order_number_is_read_in_any_width_and_spacing(text, number):
    assert order_number(text) == number


@pytest.mark.parametrize(
    ("text", "last4"),
    [
        ("1234", "1234"),
        ("１２３４", "1234"),
        ("尾号是1234", "1234"),
        ("*******1234", "1234"),
        ("13800001234", "1234"),
        ("+44 7700 901234", "1234"),
        ("20260001 1234", "1234"),
        ("1234, order 20260001", "1234"),
        ("20260001", None),
        ("12", None),
        ("12345", None),
        ("no", None),
    ],
)
def test_phone_last4_is_read_alone_masked_or_in_full(text, last4):
    assert phone_last4(text) == last4


def test_dates_are_written_in_the_customers_language():
    assert day(date(2026, 3, 9), "zh") == "2026年3月9日"
    assert day(date(2026, 3, 9), "en") == "9 March 2026"


def test_customer_is_asked_for_the_order_number_only():
    assert validate(tracker(ALICE)) == ({"requested_slot": "order_number"}, [])
    filled, _ = validate(tracker(ALICE, named={"order_number": "２０２６ ０００１"}))
    assert filled == {"order_number": "20260001", "requested_slot": None}


def test_guest_is_also_asked_for_the_phones_last_digits():
    filled, messages = validate(tracker(GUEST, named={"order_number": "20260001"}))
    assert (filled["requested_slot"], messages) == ("phone_last4", [])


def test_message_without_metadata_comes_from_a_guest():
    filled, _ = validate(tracker(None, named={"order_number": "20260001"}))
    assert filled["requested_slot"] == "phone_last4"


@pytest.mark.parametrize("identified", ["true", "false", 1, None])
def test_only_true_identifies_a_customer(identified):
    """The message's metadata say whether the customer is identified; "true" and 1 do not count."""
    asking = tracker({**ALICE, "identified": identified}, named={"order_number": "20260001"})
    assert validate(asking)[0]["requested_slot"] == "phone_last4"


def test_answer_without_entity_is_read_from_the_text():
    asking = tracker(GUEST, "是 *******1234", order_number="20260001", requested_slot="phone_last4")
    assert validate(asking) == ({"phone_last4": "1234", "requested_slot": None}, [])


def test_invalid_answer_is_reported_and_asked_again():
    asking = tracker(ALICE, "订单号是123", requested_slot="order_number")
    assert validate(asking) == (
        {"order_number": None, "requested_slot": "order_number"},
        ["utter_invalid_order_number"],
    )
    asking = tracker(GUEST, "12", order_number="20260001", requested_slot="phone_last4")
    assert validate(asking) == ({"phone_last4": None, "requested_slot": "phone_last4"}, ["utter_invalid_phone_last4"])


def test_answer_without_digits_is_left_to_other_policies():
    """The form asked for digits, and the customer asks for a person."""
    asking = tracker(GUEST, "找人工", order_number="20260001", requested_slot="phone_last4")
    assert validate(asking) == ({"requested_slot": "phone_last4"}, [])


def test_last_of_several_order_numbers_counts():
    filled, _ = validate(tracker(ALICE, named={"order_number": ["20260002", "20260001"]}))
    assert filled["order_number"] == "20260001"


def test_digits_slot_with_too_few_digits_counts_as_missing():
    filled, _ = validate(tracker(GUEST, named={"order_number": "20260001"}, phone_last4="12"))
    assert filled["requested_slot"] == "phone_last4"


@pytest.mark.parametrize(("language", "carrier"), [("zh", "中通快递"), ("en", "ZTO Express"), (None, "中通快递")])
def test_carrier_is_named_in_the_customers_language(language, carrier):
    messages, _ = run(FakeShop(), tracker(ALICE, order_number="20260001", language=language))
    assert (messages[0]["response"], messages[0]["carrier"]) == ("utter_order_shipped", carrier)


def test_lookup_uses_the_tokens_user_or_the_guests_digits():
    shop = FakeShop()
    run(shop, tracker(ALICE, order_number="20260001", phone_last4="9999"))
    run(shop, tracker(GUEST, order_number="20260001", phone_last4="*******1234"))
    assert shop.calls == [
        (Asker("demo", "alice"), "20260001"),
        (Asker("demo", guest="guest-1", phone_last4="1234"), "20260001"),
    ]


def test_lookup_empties_the_slots_for_the_next_order():
    _, slots = run(FakeShop(), tracker(ALICE, order_number="20260001"))
    assert slots == {"order_number": None, "phone_last4": None, "last_order_number": "20260001"}


def test_order_of_another_customer_is_not_remembered():
    messages, slots = run(FakeShop(NotFound()), tracker(ALICE, order_number="20260009"))
    assert messages[0]["response"] == "utter_order_not_found"
    assert slots == {"order_number": None, "phone_last4": None}


def test_too_many_attempts_have_their_own_response():
    messages, _ = run(FakeShop(TooManyAttempts(60)), tracker(GUEST, order_number="20260001", phone_last4="1234"))
    assert messages[0]["response"] == "utter_order_attempts_exceeded"


def test_missing_digits_or_order_number_fail_the_action():
    for asking in (tracker(GUEST, order_number="20260001"), tracker(ALICE)):
        with pytest.raises(ActionFailed):
            run(FakeShop(), asking)


def test_unknown_status_fails_the_action():
    odd = sample_order(status="lost_at_sea")
    with pytest.raises(ActionFailed):
        run(FakeShop(odd), tracker(ALICE, order_number="20260001"))


def test_shipped_order_without_tracking_number_fails_the_action():
    with pytest.raises(ActionFailed):
        run(FakeShop(sample_order(tracking_number=None)), tracker(ALICE, order_number="20260001"))


def test_reply_has_only_the_variables_of_its_response():
    messages, _ = run(FakeShop(), tracker(ALICE, order_number="20260001"))
    blanks = {name for name, value in messages[0].items() if value} - {"template", "response"}
    assert blanks == {"order_number", "carrier", "tracking_number"}


def test_inquiry_is_recorded_only_under_a_key_of_the_call():
    """Without a key, a repeated call would be counted twice."""
    shop = FakeShop()
    run(shop, tracker(ALICE, order_number="20260001"), key="key-9")
    run(shop, tracker(ALICE, order_number="20260001"), key=None)
    assert shop.inquiries == [("demo", "20260001", "key-9")]


@pytest.mark.parametrize(
    ("status", "paid", "response"),
    [
        ("cancelled", "unpaid", "utter_payment_cancelled"),
        ("cancelled", "failed", "utter_payment_cancelled"),
        ("cancelled", "paid", "utter_payment_cancelled_paid"),
        ("cancelled", "charged_twice", "utter_payment_charged_twice"),
        ("awaiting_payment", "unpaid", "utter_payment_unpaid"),
        ("awaiting_payment", "failed", "utter_payment_failed"),
        ("shipped", "paid", "utter_payment_paid"),
    ],
)
def test_no_reply_asks_to_pay_for_a_cancelled_order(status, paid, response):
    shop = FakeShop(sample_order(status=status, payment=Payment(paid, None)))
    messages, _ = run(shop, tracker(ALICE, order_number="20260001"), task=CheckPayment)
    assert messages[0]["response"] == response


def test_double_charge_ticket_has_the_customers_first_words():
    """The customer's first message describes the problem; the last one is only the order number."""
    shop = FakeShop(sample_order(payment=Payment("charged_twice", None)))
    asking = tracker(ALICE, "20260001", order_number="20260001")
    opening = {
        "event": "user",
        "text": "扣了我两次钱" + "！" * 3000,
        "parse_data": {"intent": {"name": "payment_issue"}},
    }
    asking.events += [opening, {"event": "user", "text": "20260001", "parse_data": {"intent": {"name": "inform"}}}]
    run(shop, asking, task=CheckPayment)
    (words,) = shop.tickets
    assert words.startswith("charged twice: 扣了我两次钱")
    assert len(words) < 600


def test_changed_fee_asks_for_the_yes_again():
    shop = FakeShop(Refused("fee_changed"))
    asking = tracker(ALICE, order_number="20260001", confirmed=True, fee="0.00 CNY", fee_amount="0.00")
    dispatcher = CollectingDispatcher()
    slot, form = asyncio.run(CancelOrder(shop).run(dispatcher, asking, {}))
    assert shop.calls[0][3] == "0.00"
    assert (slot["name"], slot["value"], form["name"]) == ("confirmed", None, "cancel_order_form")
    assert dispatcher.messages[0]["response"] == "utter_cancel_order_refused_fee_changed"
