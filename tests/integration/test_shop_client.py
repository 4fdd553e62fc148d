"""The action server's client of the shop (`actions/shop`) against the real shop: it returns refusals as values."""

from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from actions.shop import (
    Account,
    Address,
    Asker,
    Cancellation,
    Invoice,
    NotFound,
    Order,
    Payment,
    Refund,
    Refused,
    Shop,
    ShopUnavailable,
    TooManyAttempts,
)
from tests.integration.shop_calls import Orders, new_key, paid
from tests.integration.shop_fixtures import TOKEN, running_shop

ALICE, BOB = Asker("demo", "alice"), Asker("demo", "bob")
GUEST = Asker("demo", guest="guest-1", phone_last4="1234")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running_shop(tmp_path_factory.mktemp("shop")) as server:
        yield server.url


@pytest.fixture(scope="module")
def orders(url):
    return Orders()


@asynccontextmanager
async def client(url: str):
    shop = Shop(url, TOKEN, 10.0)
    try:
        yield shop
    finally:
        await shop.close()


async def test_customer_and_guest_with_digits_get_the_same_order(url):
    async with client(url) as shop:
        order = await shop.order(ALICE, "20260001")
        assert isinstance(order, Order)
        assert (order.status, order.placed_on) == ("shipped", date(2026, 1, 5))
        assert order.items[0].name == {"zh": "充电宝", "en": "Power bank"}
        assert order.payment == Payment("paid", {"zh": "微信支付", "en": "WeChat Pay"})
        assert await shop.order(GUEST, "20260001") == order
        assert (await shop.orders(ALICE))[-1] == order


async def test_client_finds_no_order_of_another_customer(url):
    async with client(url) as shop:
        for asker, number in ((BOB, "20260001"), (ALICE, "99999999"), (replace(GUEST, phone_last4="0000"), "20260004")):
            answers = [
                await shop.order(asker, number),
                await shop.cancel(asker, number, new_key(), None),
                await shop.refunds(asker, number),
                await shop.request_invoice(asker, number, "x", new_key()),
            ]
            assert answers == [NotFound()] * 4


@pytest.mark.parametrize("number", ["", "1", "../account", "20260001/cancellation", "２０２６０００１", "20260001\n"])
async def test_client_puts_only_order_numbers_into_a_path(url, number):
    """Other texts of a customer, such as ../account, are not sent to the shop."""
    async with client(url) as shop:
        assert await shop.order(ALICE, number) == NotFound()
        assert await shop.order(GUEST, number) == NotFound()
        assert await shop.cancel(ALICE, number, new_key(), None) == NotFound()


async def test_client_returns_too_many_attempts_as_a_value(url):
    """The sixth attempt at a guest's digits raises nothing."""
    wrong = replace(GUEST, phone_last4="9999")
    async with client(url) as shop:
        answers = [await shop.cancel(wrong, "66666666", new_key(), None) for _ in range(6)]
    assert answers[:5] == [NotFound()] * 5
    assert isinstance(answers[5], TooManyAttempts)
    assert 0 < answers[5].retry_after_s <= 900


async def test_client_changes_and_cancels_an_order_once_per_key(url, orders):
    row = orders.take("processing", paid)
    asker = Asker("demo", row["customer_id"])
    async with client(url) as shop:
        moved = await shop.change_address(asker, row["number"], "London", new_key())
        assert moved.address == "London"
        assert await shop.cancel(asker, row["number"], new_key(), "0.01") == Refused("fee_changed")
        key = new_key()
        first = await shop.cancel(asker, row["number"], key, moved.cancellation_fee)
        assert isinstance(first, Cancellation)
        assert await shop.cancel(asker, row["number"], key, moved.cancellation_fee) == first
        assert await shop.cancel(asker, row["number"], new_key(), None) == Refused("already_cancelled")
        (refund,) = await shop.refunds(asker, row["number"])
        assert (refund.status, refund.amount) == ("approved", first.refund)


async def test_client_raises_unavailable_for_a_reused_key(url, orders):
    """The key was used for another address: a retry would not help."""
    row, key = orders.take("processing", paid), new_key()
    async with client(url) as shop:
        asker = Asker("demo", row["customer_id"])
        await shop.change_address(asker, row["number"], "London", key)
        with pytest.raises(ShopUnavailable):
            await shop.change_address(asker, row["number"], "Paris", key)
        assert (await shop.order(asker, row["number"])).address == "London"


async def test_client_changes_the_quantity_of_an_item(url):
    async with client(url) as shop:
        changed = await shop.change_item(GUEST, "20260002", 1, 3, new_key())
        assert changed.items[0].quantity == 3
        assert changed == await shop.order(ALICE, "20260002")
        assert await shop.change_item(GUEST, "20260002", 9, 3, new_key()) == Refused("no_such_item")
        assert await shop.change_item(GUEST, "20260002", 1, 10**30, new_key()) == Refused("quantity_limit")
        assert await shop.change_item(GUEST, "20260002", -(10**30), 1, new_key()) == Refused("no_such_item")


async def test_client_requests_and_lists_refunds_and_invoices(url):
    async with client(url) as shop:
        order = await shop.order(ALICE, "20260003")
        assert order.refundable.until == order.delivered_on + timedelta(days=7)
        refund = await shop.request_refund(ALICE, "20260003", "坏了", new_key())
        assert isinstance(refund, Refund)
        assert await shop.refunds(GUEST, "20260003") == [refund]
        assert await shop.request_refund(GUEST, "20260003", "坏了", new_key()) == Refused("already_requested")
        invoice = await shop.request_invoice(GUEST, "20260003", "个人", new_key())
        assert invoice == Invoice("requested", "个人", "a***@example.com")
        assert await shop.request_invoice(ALICE, "20260004", "个人", new_key()) == Refused("cancelled")


async def test_client_changes_an_account(url):
    async with client(url) as shop:
        assert await shop.subscribe(BOB, True, new_key()) is True
        deletion = await shop.delete_account(BOB, new_key())
        account = Account("Robert", "*********0567", "b***@example.com", True, deletion.on)
        assert await shop.rename(BOB, "Robert", new_key()) == account
        assert await shop.reset_password(BOB, new_key()) == "b***@example.com"
        second = Address("3 Larch Street, London", False)
        assert await shop.add_address(BOB, second.address, False, new_key()) == second


async def test_client_finds_no_account_of_guests_and_unknown_customers(url):
    unknown = Asker("demo", "nobody")
    async with client(url) as shop:
        for asker, answer in ((GUEST, Refused("known_customers_only")), (unknown, NotFound())):
            assert await shop.add_address(asker, "x", True, new_key()) == answer
            assert await shop.rename(asker, "x", new_key()) == answer
            assert await shop.reset_password(asker, new_key()) == answer
            assert await shop.delete_account(asker, new_key()) == answer
            assert await shop.subscribe(asker, True, new_key()) == answer
        assert await shop.orders(GUEST) == Refused("known_customers_only")
        assert await shop.orders(unknown) == []


async def test_client_opens_tickets_of_guests_and_customers(url):
    tomorrow = datetime.now(UTC).replace(hour=4, minute=0, second=0, microsecond=0) + timedelta(days=1)
    async with client(url) as shop:
        ticket = await shop.open_ticket(
            GUEST, "callback", "请回电", new_key(), order="20260001", call_at=tomorrow.isoformat()
        )
        assert ticket.answer_by == tomorrow
        other = await shop.open_ticket(ALICE, "complaint", "不好", new_key())
        assert other.number != ticket.number
        assert await shop.open_ticket(ALICE, "complaint", " ", new_key()) == Refused("bad_text")
        assert await shop.open_ticket(ALICE, "complaint", "😀" * 4000, new_key()) == Refused("bad_text")


async def test_client_reads_products_and_rules(url):
    async with client(url) as shop:
        (lamp,) = await shop.products("demo", "desk lamp")
        assert (lamp.name["zh"], lamp.price, lamp.currency) == ("台灯", "129.00", "CNY")
        assert await shop.products("demo", "a&b=c 100% #") == []
        policies = await shop.policies("demo")
        assert (policies.refund_days, policies.cancellation["fee_percent"]) == (7, 5)
        assert await shop.policies("other") == NotFound()
