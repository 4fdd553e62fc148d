"""Idempotency-Key: one effect for each key, also for repeated and concurrent requests, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.integration.postgres_kit import new_database
from tests.integration.shop_calls import Orders, ask, asking, new_key, order, paid, path
from tests.integration.shop_fixtures import running_shop

EVERY_EFFECT = [
    ("POST", "/v1/orders/20260007/cancellation", {}),
    ("POST", "/v1/orders/20260007/items", {"item": 1, "quantity": 1}),
    ("POST", "/v1/orders/20260007/address", {"address": "x"}),
    ("POST", "/v1/orders/20260007/refunds", {"reason": "x"}),
    ("POST", "/v1/orders/20260007/invoice", {"title": "x"}),
    ("POST", "/v1/addresses", {"address": "x", "default": False}),
    ("PATCH", "/v1/account", {"name": "x"}),
    ("POST", "/v1/account/password-resets", {}),
    ("POST", "/v1/account/deletion", {}),
    ("PUT", "/v1/newsletter", {"subscribed": True}),
    ("POST", "/v1/tickets", {"kind": "complaint", "text": "x"}),
]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shops(request, tmp_path_factory):
    """Two shops on one database: a lock within one process could not settle a race between them."""
    folder = tmp_path_factory.mktemp("shops")
    lite = request.param == "sqlite"
    url = f"sqlite:///{folder / 'shop.db'}" if lite else new_database(request.getfixturevalue("postgres"))
    with ExitStack() as stack:
        folders = [folder / name for name in ("first", "second")]
        for each in folders:
            each.mkdir()
        yield [stack.enter_context(running_shop(each, url)) for each in folders]


@pytest.fixture(scope="module")
def orders(shops):
    return Orders()


def at_once(shops, calls):
    """Make all calls at the same time, alternately to the two shops. A call is a function of a shop."""
    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(call, shops[n % len(shops)]) for n, call in enumerate(calls)]
        return [each.result() for each in running]


def refunds(shop, row):
    return ask(shop, "POST", path(row, "refund-lookups"), row["customer_id"], key=None).json()["refunds"]


@pytest.mark.parametrize(("method", "target", "body"), EVERY_EFFECT, ids=lambda value: str(value))
def test_request_for_an_effect_without_a_key_is_400(shops, method, target, body):
    assert ask(shops[0], method, target, "bob", key=None, **body).status_code == 400
    assert ask(shops[0], method, target, "bob", key="a b", **body).status_code == 400


@pytest.mark.parametrize(("method", "target", "body"), EVERY_EFFECT, ids=lambda value: str(value))
def test_repeated_request_gets_the_stored_answer(shops, method, target, body):
    """Also from another shop on the same database. Another body under the key is refused."""
    customer = "customer-100" if "orders" not in target else "bob"
    key = new_key()
    first = ask(shops[0], method, target, customer, key=key, **body)
    again = ask(shops[1], method, target, customer, key=key, **dict(reversed(body.items())))
    assert first.status_code in (200, 201, 202, 409)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    other = ask(shops[0], method, target, customer, key=key, **{**body, "phone_last4": "1234"})
    assert (other.status_code, other.json()["type"]) == (422, "urn:kefu:shop:key-reused")


def test_key_belongs_to_its_caller_and_its_path(shops, orders):
    first, second = orders.take("processing", paid), orders.take("processing", paid)
    key, shop = new_key(), shops[0]
    assert ask(shop, "POST", path(first, "cancellation"), first["customer_id"], key=key).status_code == 201
    # The same key of another customer is another key. The customer's own key is refused for another path.
    assert ask(shop, "POST", path(second, "cancellation"), second["customer_id"], key=key).status_code == 201
    assert ask(shop, "POST", path(first, "invoice"), first["customer_id"], key=key, title="x").status_code == 422
    ticket = {"kind": "complaint", "text": "x"}
    tickets = [ask(shop, "POST", "/v1/tickets", guest=guest, key=key, **ticket).json() for guest in ("g-1", "g-2")]
    assert tickets[0]["number"] != tickets[1]["number"]


def test_repeated_request_gets_the_stored_refusal(shops, orders):
    row, key = orders.take("processing", paid), new_key()
    early = ask(shops[0], "POST", path(row, "refunds"), row["customer_id"], key=key, reason="x")
    assert early.json()["reason"] == "not_delivered"
    assert ask(shops[1], "POST", path(row, "cancellation"), row["customer_id"]).status_code == 201
    again = ask(shops[1], "POST", path(row, "refunds"), row["customer_id"], key=key, reason="x")
    assert again.content == early.content


def test_key_of_a_404_can_be_used_again(shops, orders):
    row, key = orders.take("processing", paid), new_key()
    wrong = "0000" if row["phone_last4"] != "0000" else "1111"
    given = [{"phone_last4": wrong}, {"phone_last4": row["phone_last4"]}]
    answers = [ask(shops[0], "POST", path(row, "cancellation"), guest="g", key=key, **body) for body in given]
    assert [answer.status_code for answer in answers] == [404, 201]


def test_repeated_guest_request_is_answered_despite_the_lock(shops, orders):
    """Wrong digits have locked the order for guests. A request that was answered before still gets its answer."""
    row, key, shop = orders.take("processing", paid), new_key(), shops[0]
    body = {"phone_last4": row["phone_last4"]}
    first = ask(shop, "POST", path(row, "cancellation"), guest="g", key=key, **body)
    wrong = "0000" if row["phone_last4"] != "0000" else "1111"
    for _ in range(6):
        ask(shop, "POST", "/v1/order-lookups", key=None, number=row["number"], phone_last4=wrong)
    assert ask(shop, "POST", path(row, "cancellation"), guest="g", **body).status_code == 429
    assert ask(shop, "POST", path(row, "cancellation"), guest="g", key=key, **body).content == first.content


def test_ten_concurrent_requests_with_one_key_have_one_effect(shops, orders):
    for _ in range(5):
        row, key = orders.take("processing", paid), new_key()
        answers = at_once(shops, [asking("POST", path(row, "cancellation"), row["customer_id"], key=key)] * 10)
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.content for answer in answers}) == 1
        assert len(refunds(shops[0], row)) == 1


def test_concurrent_tickets_with_one_key_are_one_ticket(shops):
    key = new_key()
    body = {"kind": "callback", "text": "请回电"}
    answers = at_once(shops, [asking("POST", "/v1/tickets", guest="g-9", key=key, **body)] * 6)
    assert len({answer.content for answer in answers}) == 1


def test_concurrent_cancellations_of_an_order_succeed_once(shops, orders):
    for _ in range(8):
        row = orders.take("processing", paid)
        answers = at_once(shops, [asking("POST", path(row, "cancellation"), row["customer_id"])] * 4)
        assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
        assert {answer.json().get("reason") for answer in answers} == {None, "already_cancelled"}
        assert len(refunds(shops[0], row)) == 1


def test_concurrent_cancellation_and_shipment_exclude_each_other(shops, orders):
    carrier = {"carrier_zh": "顺丰速运", "carrier_en": "SF Express", "tracking_number": "SF1"}
    outcomes = set()
    for n in range(12):
        row = orders.take("processing")
        calls = [
            asking("POST", path(row, "cancellation"), row["customer_id"]),
            asking("POST", path(row, "shipment"), **carrier),
        ]
        cancelled, shipped = at_once(shops, calls) if n % 2 else reversed(at_once(shops, calls[::-1]))
        status = order(shops[0], row)["status"]
        assert (cancelled.status_code, shipped.status_code) in ((201, 409), (409, 200))
        assert status == ("cancelled" if cancelled.status_code == 201 else "shipped")
        refused = shipped if status == "cancelled" else cancelled
        assert refused.json()["reason"] == status
        assert len(refunds(shops[0], row)) == (status == "cancelled")
        outcomes.add(status)
    assert outcomes <= {"cancelled", "shipped"}


def test_concurrent_refund_requests_succeed_once(shops):
    calls = [asking("POST", "/v1/orders/20260003/refunds", "alice", reason="坏了")] * 6
    answers = at_once(shops, calls)
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 5
    assert len(refunds(shops[0], {"number": "20260003", "customer_id": "alice"})) == 1


def test_concurrent_changes_never_exceed_the_stock(shops, orders):
    def lamps(shop):
        return shop.http.get("/v1/products", params={"q": "desk lamp"}).json()["products"][0]["stock"]

    rows = [orders.take("awaiting_payment") for _ in range(16)]
    before = lamps(shops[0])

    def ten_of(row):
        return asking("POST", path(row, "items"), row["customer_id"], item=1, quantity=10)

    answers = at_once(shops, [ten_of(row) for row in rows])
    taken = sum(
        10 - row["items"][0]["quantity"] for row, answer in zip(rows, answers, strict=True) if answer.status_code == 200
    )
    refused = [answer.json()["reason"] for answer in answers if answer.status_code != 200]
    assert set(refused) == {"out_of_stock"}
    assert lamps(shops[0]) == before - taken >= 0
