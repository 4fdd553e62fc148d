"""What the order form understands, and what the action says, without a network."""

import asyncio
from datetime import UTC, date, datetime

import pytest
from rasa_sdk import Tracker
from rasa_sdk.executor import CollectingDispatcher

from actions.forms import task_forms
from actions.idempotency import current_key
from actions.orders import CancelOrder, CheckPayment, TrackOrder
from actions.reading import day, order_number, phone_last4
from actions.shop import Asker, NotFound, Payment, Refused, Ticket, TooManyAttempts
from kefu.errors import ActionFailed
from tests.shop_samples import SHIPPED, sample_order


class FakeShop:
    """Answers what it is told to and remembers who asked."""

    def __init__(self, answer: object = SHIPPED) -> None:
        self.answer = answer
        self.asked: list[tuple] = []
        self.inquiries: list[tuple] = []
        self.tickets: list[str] = []

    async def order(self, *asked: object) -> object:
        self.asked.append(asked)
        return self.answer

    async def open_ticket(self, asker: Asker, kind: str, text: str, *_: object, **__: object) -> Ticket:
        self.tickets.append(text)
        return Ticket("T80000001", datetime(2026, 3, 1, tzinfo=UTC))

    async def cancel(self, *asked: object) -> object:
        self.asked.append(asked)
        return self.answer

    async def record_inquiry(self, *inquiry: str) -> None:
        self.inquiries.append(inquiry)


def tracker(metadata: dict | None = None, text: str = "", named: dict | None = None, **slots: object) -> Tracker:
    """Return the tracker of a form that asked for a slot, or else opens."""
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
    return {event["name"]: event["value"] for event in events}, [said["response"] for said in dispatcher.messages]


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
def test_an_order_number_is_read_in_any_width_and_spacing(text, number):
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
def test_the_end_of_a_phone_number_is_read_alone_masked_or_in_full(text, last4):
    assert phone_last4(text) == last4


def test_dates_are_written_as_people_write_them():
    assert day(date(2026, 3, 9), "zh") == "2026年3月9日"
    assert day(date(2026, 3, 9), "en") == "9 March 2026"


def test_a_customer_is_asked_for_the_number_only():
    assert validate(tracker(ALICE)) == ({"requested_slot": "order_number"}, [])
    filled, _ = validate(tracker(ALICE, named={"order_number": "２０２６ ０００１"}))
    assert filled == {"order_number": "20260001", "requested_slot": None}


def test_a_guest_is_asked_for_the_end_of_the_phone_number_too():
    filled, said = validate(tracker(GUEST, named={"order_number": "20260001"}))
    assert (filled["requested_slot"], said) == ("phone_last4", [])


def test_a_message_without_metadata_comes_from_a_guest():
    filled, _ = validate(tracker(None, named={"order_number": "20260001"}))
    assert filled["requested_slot"] == "phone_last4"


@pytest.mark.parametrize("identified", ["true", "false", 1, None])
def test_only_true_makes_a_known_customer(identified):
    asking = tracker({**ALICE, "identified": identified}, named={"order_number": "20260001"})
    assert validate(asking)[0]["requested_slot"] == "phone_last4"


def test_an_answer_without_entity_is_taken_from_the_text():
    asking = tracker(GUEST, "是 *******1234", order_number="20260001", requested_slot="phone_last4")
    assert validate(asking) == ({"phone_last4": "1234", "requested_slot": None}, [])


def test_an_answer_that_does_not_fit_is_said_to_and_asked_again():
    asking = tracker(ALICE, "订单号是123", requested_slot="order_number")
    assert validate(asking) == (
        {"order_number": None, "requested_slot": "order_number"},
        ["utter_invalid_order_number"],
    )
    asking = tracker(GUEST, "12", order_number="20260001", requested_slot="phone_last4")
    assert validate(asking) == ({"phone_last4": None, "requested_slot": "phone_last4"}, ["utter_invalid_phone_last4"])


def test_an_answer_without_digits_is_left_to_other_policies():
    asking = tracker(GUEST, "找人工", order_number="20260001", requested_slot="phone_last4")
    assert validate(asking) == ({"requested_slot": "phone_last4"}, [])


def test_of_several_order_numbers_the_last_is_taken():
    filled, _ = validate(tracker(ALICE, named={"order_number": ["20260002", "20260001"]}))
    assert filled["order_number"] == "20260001"


def test_an_entity_that_can_not_be_read_counts_as_missing():
    filled, _ = validate(tracker(GUEST, named={"order_number": "20260001"}, phone_last4="12"))
    assert filled["requested_slot"] == "phone_last4"


@pytest.mark.parametrize(("language", "carrier"), [("zh", "中通快递"), ("en", "ZTO Express"), (None, "中通快递")])
def test_the_carrier_is_named_in_the_customers_language(language, carrier):
    said, _ = run(FakeShop(), tracker(ALICE, order_number="20260001", language=language))
    assert (said[0]["response"], said[0]["carrier"]) == ("utter_order_shipped", carrier)


def test_a_customer_is_looked_up_by_the_tokens_user_and_a_guest_by_digits():
    shop = FakeShop()
    run(shop, tracker(ALICE, order_number="20260001", phone_last4="9999"))
    run(shop, tracker(GUEST, order_number="20260001", phone_last4="*******1234"))
    assert shop.asked == [
        (Asker("demo", "alice"), "20260001"),
        (Asker("demo", guest="guest-1", phone_last4="1234"), "20260001"),
    ]


def test_after_a_look_up_the_slots_are_free_for_the_next_order():
    _, slots = run(FakeShop(), tracker(ALICE, order_number="20260001"))
    assert slots == {"order_number": None, "phone_last4": None, "last_order_number": "20260001"}


def test_an_order_that_is_not_theirs_is_not_remembered():
    said, slots = run(FakeShop(NotFound()), tracker(ALICE, order_number="20260009"))
    assert said[0]["response"] == "utter_order_not_found"
    assert slots == {"order_number": None, "phone_last4": None}


def test_too_many_attempts_are_told_as_such():
    said, _ = run(FakeShop(TooManyAttempts(60)), tracker(GUEST, order_number="20260001", phone_last4="1234"))
    assert said[0]["response"] == "utter_order_attempts_exceeded"


def test_a_guest_without_digits_and_anyone_without_number_make_the_action_fail():
    for asking in (tracker(GUEST, order_number="20260001"), tracker(ALICE)):
        with pytest.raises(ActionFailed):
            run(FakeShop(), asking)


def test_a_status_nobody_has_written_a_reply_for_makes_the_action_fail():
    odd = sample_order(status="lost_at_sea")
    with pytest.raises(ActionFailed):
        run(FakeShop(odd), tracker(ALICE, order_number="20260001"))


def test_a_shipped_order_without_tracking_number_makes_the_action_fail():
    with pytest.raises(ActionFailed):
        run(FakeShop(sample_order(tracking_number=None)), tracker(ALICE, order_number="20260001"))


def test_a_reply_tells_what_its_response_needs_and_no_more():
    said, _ = run(FakeShop(), tracker(ALICE, order_number="20260001"))
    told = {name for name, value in said[0].items() if value} - {"template", "response"}
    assert told == {"order_number", "carrier", "tracking_number"}


def test_an_inquiry_is_recorded_under_the_key_of_the_call_and_only_with_one():
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
def test_nobody_is_told_to_pay_for_what_was_cancelled(status, paid, response):
    shop = FakeShop(sample_order(status=status, payment=Payment(paid, None)))
    said, _ = run(shop, tracker(ALICE, order_number="20260001"), task=CheckPayment)
    assert said[0]["response"] == response


def test_the_ticket_of_a_double_charge_has_the_words_that_the_customer_came_with():
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


def test_a_yes_is_to_the_fee_that_was_named_and_asked_for_again_when_it_is_another():
    shop = FakeShop(Refused("fee_changed"))
    asking = tracker(ALICE, order_number="20260001", confirmed=True, fee="0.00 CNY", fee_amount="0.00")
    dispatcher = CollectingDispatcher()
    slot, form = asyncio.run(CancelOrder(shop).run(dispatcher, asking, {}))
    assert shop.asked[0][3] == "0.00"
    assert (slot["name"], slot["value"], form["name"]) == ("confirmed", None, "cancel_order_form")
    assert dispatcher.messages[0]["response"] == "utter_cancel_order_refused_fee_changed"
