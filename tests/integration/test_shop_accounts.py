"""Accounts, tickets, goods and rules over HTTP, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest

from ops.local.shop.rules import SHOP_ZONE
from tests.integration.shop_calls import ask

ACCOUNT_CALLS = [
    ("GET", "/v1/account", {}),
    ("PATCH", "/v1/account", {"name": "x"}),
    ("GET", "/v1/addresses", {}),
    ("POST", "/v1/addresses", {"address": "x", "default": True}),
    ("POST", "/v1/account/password-resets", {}),
    ("POST", "/v1/account/deletion", {}),
    ("DELETE", "/v1/account/deletion", {}),
    ("PUT", "/v1/newsletter", {"subscribed": True}),
]


def account(shop, customer: str) -> dict:
    return ask(shop, "GET", "/v1/account", customer).json()


@pytest.mark.parametrize(("method", "target", "body"), ACCOUNT_CALLS, ids=lambda value: str(value))
def test_guests_and_unknown_customers_have_no_account(shop, method, target, body):
    guest = ask(shop, method, target, guest="guest-1", **body)
    assert (guest.status_code, guest.json()["reason"]) == (403, "known_customers_only")
    unknown = [ask(shop, method, target, "nobody", **body), ask(shop, method, target, "alice", tenant="other", **body)]
    assert {answer.status_code for answer in unknown} == {404}


def test_an_account_shows_phone_and_email_masked(shop):
    assert account(shop, "bob") == {
        "name": "Bob Murphy", "phone": "*********0567", "email": "b***@example.com", "newsletter": False,
        "deletion_on": None,
    }  # fmt: skip


def test_customer_can_change_the_name(shop):
    """An empty name is refused."""
    assert ask(shop, "PATCH", "/v1/account", "customer-010", name=" 王 晓雨 ").json()["name"] == "王 晓雨"
    assert account(shop, "customer-010")["name"] == "王 晓雨"
    assert ask(shop, "PATCH", "/v1/account", "customer-010", name="").json()["reason"] == "bad_name"


def test_password_reset_names_the_masked_email_address(shop):
    answer = ask(shop, "POST", "/v1/account/password-resets", "alice")
    assert (answer.status_code, answer.json()) == (202, {"sent_to": "a***@example.com"})


def test_account_deletion_is_in_7_days_and_can_be_cancelled(shop):
    day = ((datetime.now(UTC) + timedelta(hours=8)).date() + timedelta(days=7)).isoformat()
    asked = [ask(shop, "POST", "/v1/account/deletion", "customer-011") for _ in range(2)]
    assert [(answer.status_code, answer.json()) for answer in asked] == [(202, {"on": day})] * 2
    assert account(shop, "customer-011")["deletion_on"] == day
    assert ask(shop, "DELETE", "/v1/account/deletion", "customer-011", key=None).status_code == 200
    assert account(shop, "customer-011")["deletion_on"] is None
    again = ask(shop, "DELETE", "/v1/account/deletion", "customer-011")
    assert (again.status_code, again.json()["reason"]) == (409, "not_requested")


def test_newsletter_can_be_subscribed_and_unsubscribed(shop):
    for subscribed in (True, True, False):
        answer = ask(shop, "PUT", "/v1/newsletter", "customer-012", subscribed=subscribed)
        assert answer.json() == {"subscribed": subscribed}
        assert account(shop, "customer-012")["newsletter"] is subscribed
    assert ask(shop, "PUT", "/v1/newsletter", "customer-012", subscribed="yes").status_code == 400


def test_address_book_has_one_default_address(shop):
    def book() -> list[dict]:
        return ask(shop, "GET", "/v1/addresses", "alice").json()["addresses"]

    home, second = "上海市浦东新区梧桐路1号", "杭州市西湖区竹林路8号"
    assert book() == [{"address": home, "default": True}, {"address": second, "default": False}]
    added = ask(shop, "POST", "/v1/addresses", "alice", address="London", default=False)
    assert (added.status_code, added.json()) == (201, {"address": "London", "default": False})
    assert ask(shop, "POST", "/v1/addresses", "alice", address=second, default=True).json()["default"] is True
    assert [row["address"] for row in book()] == [second, home, "London"]
    assert [row["default"] for row in book()] == [True, False, False]


def test_address_book_has_at_most_20_addresses(shop):
    """The customer has one address already."""
    answers = [
        ask(shop, "POST", "/v1/addresses", "customer-013", address=f"{n} Birch Lane", default=False) for n in range(20)
    ]
    assert [answer.status_code for answer in answers] == [201] * 19 + [409]
    assert answers[-1].json()["reason"] == "too_many"


def tomorrow(hour: int) -> datetime:
    day = datetime.now(SHOP_ZONE) + timedelta(days=1)
    return day.replace(hour=hour, minute=0, second=0, microsecond=0)


@pytest.mark.parametrize(("kind", "hours"), [("complaint", 24), ("payment", 4), ("registration", 4), ("review", 72)])
def test_each_kind_of_ticket_has_its_time_of_answer(shop, kind, hours):
    answer = ask(shop, "POST", "/v1/tickets", guest="guest-1", kind=kind, text="怎么回事")
    ticket = answer.json()
    assert answer.status_code == 201
    assert ticket["number"][0] == "T"
    assert ticket["number"][1:].isdigit()
    assert len(ticket["number"]) == 9
    due = datetime.fromisoformat(ticket["answer_by"]) - datetime.now(UTC)
    assert timedelta(hours=hours, minutes=-5) < due <= timedelta(hours=hours)


def test_second_payment_ticket_of_an_order_is_the_first_one(shop):
    """Another order, another customer and a ticket without an order get tickets of their own."""

    def number(customer: str, **body: str) -> str:
        return ask(shop, "POST", "/v1/tickets", customer, kind="payment", text="x", **body).json()["number"]

    first = number("customer-020", order="20260013")
    assert number("customer-020", order="20260013") == first
    others = {
        number("customer-020", order="20260014"),
        number("customer-021", order="20260013"),
        number("customer-020"),
    }
    assert len(others - {first}) == 3


def test_call_back_ticket_has_the_requested_time(shop):
    at = tomorrow(hour=15)
    body = {"kind": "callback", "text": "x", "call_at": at.isoformat(), "order": "20260001"}
    ticket = ask(shop, "POST", "/v1/tickets", "alice", **body).json()
    assert datetime.fromisoformat(ticket["answer_by"]) == at


def test_call_back_outside_the_service_hours_is_refused(shop):
    """Without a time, the call is due within the service hours."""
    body = {"kind": "callback", "text": "x"}
    soon = datetime.fromisoformat(ask(shop, "POST", "/v1/tickets", "alice", **body).json()["answer_by"])
    assert 9 <= soon.astimezone(SHOP_ZONE).hour <= 21
    night = ask(shop, "POST", "/v1/tickets", "alice", **body, call_at=tomorrow(hour=3).isoformat())
    assert (night.status_code, night.json()["reason"]) == (409, "bad_call_at")


@pytest.mark.parametrize(
    ("field", "value"),
    [("text", ""), ("text", "长" * 2001), ("order", "1"), ("rating", 0), ("rating", 6), ("call_at", "tomorrow"),
     ("call_at", "2030-01-01T10:00:00"), ("call_at", "2020-01-01T10:00:00+08:00")],
)  # fmt: skip
def test_ticket_with_an_invalid_field_is_refused_with_a_reason(shop, field, value):
    answer = ask(shop, "POST", "/v1/tickets", "alice", **{"kind": "review", "text": "x", field: value})
    assert (answer.status_code, answer.json()["reason"]) == (409, f"bad_{field}")


def test_ticket_without_customer_or_known_kind_is_400(shop):
    assert ask(shop, "POST", "/v1/tickets", kind="review", text="x").status_code == 400
    assert ask(shop, "POST", "/v1/tickets", "alice", kind="party", text="x").status_code == 400


@pytest.mark.parametrize(
    ("query", "best"),
    [
        ("蓝牙耳机", "AU-101"), ("耳机", "AU-101"), ("earbuds", "AU-101"), ("藍牙耳機", "AU-101"),
        ("充电宝", "PB-201"), ("power banks", "PB-201"), ("ＰＯＷＥＲ　ＢＡＮＫ", "PB-201"),
        ("phone", "MC-301"), ("手机壳", "MC-301"), ("电饭锅", "KC-401"), ("rice cooker", "KC-401"),
        ("保温杯", "HM-501"), ("Thermos mug", "HM-501"), ("desk  lamp", "HM-601"), ("keyboard", "PC-701"),
        ("电吹风", "HD-801"), ("blow dryer", "HD-801"), ("speaker", "AU-901"), ("拉杆箱", "TR-901"),
        ("有没有行李箱", "TR-901"), ("bluetooth", "AU-101"),
    ],
)  # fmt: skip
def test_product_search_finds_everyday_names(shop, query, best):
    products = shop.http.get("/v1/products", params={"q": query}).json()["products"]
    assert products[0]["sku"] == best


def test_products_have_all_fields_in_both_languages(shop):
    (lamp,) = shop.http.get("/v1/products", params={"q": "台灯"}).json()["products"]
    assert set(lamp) == {"sku", "name_zh", "name_en", "price", "currency", "stock", "warranty_months", "features_zh",
                         "features_en"}  # fmt: skip
    assert (lamp["price"], lamp["currency"], lamp["name_en"]) == ("129.00", "CNY", "Desk lamp")
    assert lamp["features_zh"]
    assert len(lamp["features_zh"]) == len(lamp["features_en"])


def test_product_search_without_a_match_finds_nothing(shop):
    """Without a query it gives all goods of the tenant."""
    assert shop.http.get("/v1/products", params={"q": "冰箱"}).json() == {"products": []}
    assert len(shop.http.get("/v1/products").json()["products"]) >= 10
    other = shop.http.get("/v1/products", headers={"X-Tenant": "other"})
    assert other.json() == {"products": []}


def test_shop_gives_its_rules_in_both_languages(shop):
    rules = shop.http.get("/v1/policies").json()
    assert rules["refund_days"] == 7
    assert rules["cancellation"] == {"free_hours": 2, "fee_percent": 5}
    texts = [rules["refund_postage"], rules["order_steps"], rules["review"]["where"], rules["registration"]["steps"],
             rules["invoice"]["kinds"], rules["service"]["hours"], *rules["payment_methods"]]  # fmt: skip
    texts += [words for way in rules["delivery"] for words in (way["name"], way["regions"])]
    assert all(set(words) == {"zh", "en"} and all(words.values()) for words in texts)
    assert shop.http.get("/v1/policies", headers={"X-Tenant": "other"}).status_code == 404
