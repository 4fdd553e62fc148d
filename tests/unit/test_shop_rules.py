"""The shop's rules about an order, by the hour and the day."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kefu.privacy import mask
from ops.local.shop import demo
from ops.local.shop.demo_goods import GOODS
from ops.local.shop.demo_policies import POLICIES
from ops.local.shop.rules import (
    SHOP_ZONE,
    cancellation_fee,
    due,
    is_open,
    masked_email,
    masked_phone,
    money,
    place,
    refundable,
)

PLACED = datetime(2026, 3, 1, 4, 0, tzinfo=UTC)
DELIVERED = date(2026, 3, 5)


def order(**changes):
    made = {
        "status": "processing", "payment_status": "paid", "placed_at": PLACED, "amount_minor": 10_000,
        "refunded_minor": 0, "delivered_on": None, "delivered_days_ago": None, "open_refund": False, "rules": POLICIES,
    }  # fmt: skip
    return {**made, **changes}


def after(**time: float) -> float:
    return (PLACED + timedelta(**time)).timestamp()


@pytest.mark.parametrize(("hours", "fee"), [(0, 0), (1.9, 0), (2, 0), (2.01, 500), (24 * 300, 500)])
def test_cancelling_is_free_for_two_hours_then_five_percent(hours, fee):
    assert cancellation_fee(order(), after(hours=hours)) == fee
    without_zone = order(placed_at=PLACED.replace(tzinfo=None))  # SQLite returns times without a zone
    assert cancellation_fee(without_zone, after(hours=hours)) == fee


def test_cancelling_an_unpaid_order_is_always_free():
    assert cancellation_fee(order(status="awaiting_payment", payment_status="failed"), after(days=30)) == 0


def test_each_tenants_own_rules_apply():
    dear = {**POLICIES, "cancellation": {"free_hours": 0, "fee_percent": 50}, "refund_days": 30}
    assert cancellation_fee(order(rules=dear), after(hours=1)) == 5000
    delivered = order(rules=dear, status="delivered", delivered_on=DELIVERED)
    assert refundable(delivered, after(days=20))["until"] == "2026-04-04"


@given(st.integers(0, 10**9))
def test_cancellation_fee_is_rounded_to_the_nearest_fen(amount):
    fee = cancellation_fee(order(amount_minor=amount), after(days=1))
    assert abs(fee * 100 - amount * 5) <= 50


# The last moment of the seventh day in the shop's time zone, eight hours ahead of UTC.
LAST = datetime(2026, 3, 12, 15, 59, 59, tzinfo=UTC).timestamp()


def test_refund_deadline_is_the_end_of_day_7_in_the_shops_zone():
    delivered = order(status="delivered", delivered_on=DELIVERED)
    assert refundable(delivered, LAST) == {"until": "2026-03-12", "reason": None}
    assert refundable(delivered, LAST + 1) == {"until": None, "reason": "too_late"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payment_status": "unpaid"}, "not_paid"),
        ({"payment_status": "failed"}, "not_paid"),
        ({"status": "shipped", "delivered_on": None}, "not_delivered"),
        ({"open_refund": True}, "already_requested"),
        ({"refunded_minor": 10_000}, "already_requested"),
        ({"status": "cancelled", "delivered_on": None}, "not_delivered"),
        ({"payment_status": "charged_twice"}, None),
        ({"status": "partly_refunded", "refunded_minor": 1}, None),
    ],
)
def test_order_that_can_not_be_refunded_has_a_reason(changes, reason):
    delivered = {"status": "delivered", "delivered_on": DELIVERED, **changes}
    assert refundable(order(**delivered), LAST)["reason"] == reason


def test_money_addresses_and_masked_contacts_are_formatted():
    assert [money(minor) for minor in (0, 5, 50, 12345)] == ["0.00", "0.05", "0.50", "123.45"]
    assert place("上海市", "浦东新区梧桐路1号") == "上海市浦东新区梧桐路1号"
    assert place("London", "2 Larch Street") == "2 Larch Street, London"
    masked = [masked_email("alice@example.com"), masked_phone("+447700900567")]
    assert masked == ["a***@example.com", "*********0567"]
    assert [mask(text) for text in masked] == masked  # the gateway's masking leaves them as they are


def test_demo_data_are_consistent():
    orders = demo.orders()
    skus = {goods[0] for goods in GOODS}
    assert {item["sku"] for row in orders for item in row["items"]} == skus
    assert {row["payment_status"] for row in orders} == {"unpaid", "paid", "failed", "charged_twice"}
    assert all(row["payment_status"] in ("unpaid", "failed") for row in orders if row["status"] == "awaiting_payment")
    refunded = {row["number"]: row["refunded_minor"] for row in orders if row["refunded_minor"]}
    refunds = demo.refunds(orders, date(2026, 11, 20))
    assert {row["number"]: row["amount_minor"] for row in refunds if row["status"] == "paid"} == refunded
    assert {row["status"] for row in refunds} == {"requested", "approved", "paid", "refused"}
    invoiced = {row["number"] for row in demo.invoices(orders)}
    assert all(row["payment_status"] != "unpaid" for row in orders if row["number"] in invoiced)


def at(hour: int, minute: int = 0, day: int = 1) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=SHOP_ZONE)


@pytest.mark.parametrize(
    ("since", "by"),
    [
        (at(10), at(12)),
        (at(19), at(21)),
        (at(20), at(10, day=2)),
        (at(23), at(11, day=2)),
        (at(3), at(11)),
        (at(21), at(11, day=2)),
    ],
)
def test_call_due_in_two_hours_is_within_the_service_hours(since, by):
    assert due(since.astimezone(UTC), 2, POLICIES["service"]) == by


def test_due_time_after_many_service_hours_is_days_later():
    assert due(at(20), 26, POLICIES["service"]) == at(10, day=4)


@pytest.mark.parametrize(
    ("moment", "open_"), [(at(8, 59), False), (at(9), True), (at(20, 59), True), (at(21), False), (at(3), False)]
)
def test_service_hours_are_in_the_shops_time_zone(moment, open_):
    assert is_open(moment.astimezone(UTC), POLICIES["service"]) is open_
