"""The shop's orders over HTTP: access for owners and guests, and the answers to all others."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.integration.shop_fixtures import Server, running_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    with running_shop(tmp_path_factory.mktemp("shop")) as server:
        yield server


def order(shop: Server, number: str, customer: str, tenant: str = "demo") -> httpx.Response:
    return shop.http.get(f"/v1/orders/{number}", headers={"X-Customer": customer, "X-Tenant": tenant})


def lookup(shop: Server, number: str, last4: str) -> httpx.Response:
    return shop.http.post("/v1/order-lookups", json={"number": number, "phone_last4": last4})


def test_alices_five_demo_orders_have_five_states(shop):
    states = [order(shop, f"2026000{n}", "alice").json()["status"] for n in range(1, 6)]
    assert states == ["shipped", "awaiting_payment", "delivered", "cancelled", "partly_refunded"]


def test_shipped_order_has_carrier_and_tracking_number(shop):
    shipped = order(shop, "20260001", "alice").json()
    assert set(shipped["carrier"]) == {"zh", "en"}
    assert shipped["tracking_number"]


def test_demo_order_is_always_delivered_yesterday(shop):
    yesterday = (datetime.now(UTC) + timedelta(hours=8)).date() - timedelta(days=1)
    assert order(shop, "20260003", "alice").json()["delivered_on"] == yesterday.isoformat()


def test_order_shows_no_personal_data_except_the_address(shop):
    shown = order(shop, "20260001", "alice")
    assert shown.json()["address"] == "上海市浦东新区梧桐路1号"
    assert not any(secret in shown.text for secret in ("1380000", "example.com", "林雨晴", "alice"))


def test_orders_of_others_and_missing_orders_get_the_same_404(shop):
    refusals = [
        order(shop, "20260001", "bob"),
        order(shop, "99999999", "bob"),
        order(shop, "not-a-number", "bob"),
        order(shop, "20260001", "nobody"),
        order(shop, "20260001", "alice", tenant="other"),
        lookup(shop, "20260002", "9999"),
        lookup(shop, "99999998", "1234"),
    ]
    assert {refused.status_code for refused in refusals} == {404}
    assert len({refused.content for refused in refusals}) == 1
    assert len({tuple(sorted(refused.headers)) for refused in refusals}) == 1


def test_a_customer_lists_her_own_orders_only(shop):
    listed = shop.http.get("/v1/orders", headers={"X-Customer": "alice"}).json()["orders"]
    assert [shown["number"] for shown in listed] == [f"2026000{n}" for n in range(5, 0, -1)]


def test_guest_sees_an_order_by_number_and_phone_digits(shop):
    assert lookup(shop, "20260001", "1234").json()["status"] == "shipped"


def test_sixth_look_up_of_a_guest_is_429_even_with_right_digits(shop):
    answers = [lookup(shop, "20260004", f"000{n}").status_code for n in range(5)]
    sixth = lookup(shop, "20260004", "1234")
    assert answers == [404] * 5
    assert sixth.status_code == 429
    assert 0 < int(sixth.headers["Retry-After"]) <= 900


def test_look_ups_of_a_missing_order_are_limited_too(shop):
    answers = [lookup(shop, "88888888", "0000").status_code for _ in range(6)]
    assert answers == [404] * 5 + [429]


def test_concurrent_wrong_look_ups_are_all_counted(shop):
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: lookup(shop, "20260005", f"90{n:02d}").status_code, range(12)))
    assert sorted(answers) == [404] * 5 + [429] * 7


def test_right_digits_reset_the_count_of_wrong_look_ups(shop):
    for _ in range(3):
        answers = [lookup(shop, "20260003", "0000").status_code for _ in range(4)]
        assert answers == [404] * 4
        assert lookup(shop, "20260003", "1234").status_code == 200


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic abc", "Bearer ü"])
def test_shop_refuses_requests_without_the_service_token(shop, authorization):
    headers = {"Authorization": authorization.encode("utf-8"), "X-Customer": "alice"}
    answer = shop.http.get("/v1/orders/20260001", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_of_the_shop_need_no_token(shop, path):
    assert httpx.get(shop.url + path, trust_env=False).status_code == 200


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"number":1,"phone_last4":"1234"}',
                                  b'{"number":"20260001","phone_last4":"12345"}'])  # fmt: skip
def test_malformed_look_up_is_400_and_not_repeated(shop, body):
    answer = shop.http.post("/v1/order-lookups", content=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert "12345" not in answer.text


def test_shop_refuses_a_body_of_40_kb(shop):
    assert shop.http.post("/v1/order-lookups", content=b"x" * 40_000).status_code == 413


def test_order_request_without_customer_or_tenant_is_400(shop):
    assert shop.http.get("/v1/orders/20260001").status_code == 400
    assert order(shop, "20260001", "alice", tenant="").status_code == 400


def inquire(shop: Server, key: str, number: str = "20260001") -> httpx.Response:
    return shop.http.post(
        "/v1/inquiries", json={"number": number, "kind": "tracking"}, headers={"Idempotency-Key": key}
    )


def inquiries(shop: Server, number: str) -> int:
    return shop.http.get("/v1/inquiries", params={"number": number}).json()["count"]


def test_repeated_inquiry_is_stored_once(shop):
    """The second POST with the same idempotency key gets the first answer, and the shop has one inquiry."""
    first, second = inquire(shop, "key-a"), inquire(shop, "key-a")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert inquiries(shop, "20260001") == 1


def test_inquiry_with_the_key_of_another_is_refused(shop):
    inquire(shop, "key-b", "20260002")
    assert inquire(shop, "key-b", "20260003").status_code == 422
    assert inquiries(shop, "20260003") == 0


def test_20_concurrent_inquiries_with_one_key_are_stored_once(shop):
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: inquire(shop, "key-c", "20260006"), range(20)))
    assert sorted(answer.status_code for answer in answers) == [201] * 20
    assert len({answer.content for answer in answers}) == 1
    assert inquiries(shop, "20260006") == 1


def test_an_inquiry_needs_a_key_and_an_order_that_exists(shop):
    assert shop.http.post("/v1/inquiries", json={"number": "20260001", "kind": "tracking"}).status_code == 400
    assert inquire(shop, "key-d", "77777777").status_code == 404


def test_shop_does_not_log_the_phone_digits(shop):
    lookup(shop, "20260006", "4711")
    assert "4711" not in shop.stderr()


def test_demo_data_have_200_customers_with_mixed_names(shop):
    with sqlite3.connect(shop.log.parent / "shop.db") as database:
        rows = database.execute("SELECT id, name, phone FROM customers").fetchall()
    assert len(rows) == 200
    assert len({phone for _, _, phone in rows}) == 200
    assert 50 < sum(name.isascii() for _, name, _ in rows) < 150
