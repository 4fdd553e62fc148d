"""The tasks on an order, on both databases: their effects, answers and refusals."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.shop_calls import Orders, ask, order, paid, path

# A valid request body for each task.
BODIES = {
    "cancellation": {},
    "items": {"item": 1, "quantity": 2},
    "address": {"address": "北京市朝阳区槐树街9号"},
    "refunds": {"reason": "坏了"},
    "invoice": {"title": "个人"},
}


@pytest.fixture(scope="module")
def orders(shop):
    return Orders()


def today():
    return (datetime.now(UTC) + timedelta(hours=8)).date()


def reason(answer) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    return answer.json()["reason"]


def stock(shop, row) -> int:
    name = row["items"][0]["name_en"]
    products = shop.http.get("/v1/products", params={"q": name}).json()["products"]
    return products[0]["stock"]


def test_cancelling_an_unpaid_order_is_free_and_restocks_items(shop, orders):
    row = orders.take("awaiting_payment", lambda row: row["payment_status"] == "unpaid")
    before = stock(shop, row)
    assert order(shop, row)["cancellation_fee"] == "0.00"
    answer = ask(shop, "POST", path(row, "cancellation"), row["customer_id"], reason="不想要了")
    assert (answer.status_code, answer.json()) == (
        201,
        {"status": "cancelled", "fee": "0.00", "refund": "0.00", "currency": "CNY"},
    )
    assert (order(shop, row)["status"], order(shop, row)["cancellable"]) == ("cancelled", False)
    assert stock(shop, row) == before + row["items"][0]["quantity"]


def test_cancelling_an_order_in_processing_costs_5_percent(shop, orders):
    row = orders.take("processing", paid)
    fee = (row["amount_minor"] * 5 + 50) // 100
    assert order(shop, row)["cancellation_fee"] == f"{fee // 100}.{fee % 100:02d}"
    answer = ask(shop, "POST", path(row, "cancellation"), row["customer_id"]).json()
    back = row["amount_minor"] - fee
    assert (answer["fee"], answer["refund"]) == (
        f"{fee // 100}.{fee % 100:02d}",
        f"{back // 100}.{back % 100:02d}",
    )
    (refund,) = ask(shop, "POST", path(row, "refund-lookups"), row["customer_id"]).json()["refunds"]
    assert (refund["status"], refund["amount"]) == ("approved", answer["refund"])
    assert order(shop, row)["refundable"] == {"until": None, "reason": "already_requested"}


def test_cancellation_with_a_changed_fee_is_refused(shop, orders):
    row = orders.take("processing", paid)
    refused = ask(shop, "POST", path(row, "cancellation"), row["customer_id"], fee="0.00")
    assert (reason(refused), order(shop, row)["status"]) == ("fee_changed", "processing")
    fee = order(shop, row)["cancellation_fee"]
    assert ask(shop, "POST", path(row, "cancellation"), row["customer_id"], fee=fee).json()["fee"] == fee


@pytest.mark.parametrize(
    ("status", "why"),
    [("shipped", "shipped"), ("delivered", "delivered"), ("partly_refunded", "delivered"),
     ("cancelled", "already_cancelled")],
)  # fmt: skip
def test_shipped_or_finished_order_is_not_cancelled(shop, orders, status, why):
    row = orders.take(status)
    assert order(shop, row)["cancellable"] is False
    assert order(shop, row)["cancellation_fee"] is None
    assert reason(ask(shop, "POST", path(row, "cancellation"), row["customer_id"])) == why
    assert order(shop, row)["status"] == status


def test_changed_quantity_changes_the_amount_and_the_stock(shop, orders):
    row = orders.take("awaiting_payment")
    before, item = stock(shop, row), row["items"][0]
    changed = ask(shop, "POST", path(row, "items"), row["customer_id"], item=1, quantity=5)
    assert changed.status_code == 200
    assert changed.json() == order(shop, row)
    assert changed.json()["items"][0]["quantity"] == 5
    total = item["price_minor"] * 5
    assert changed.json()["amount"] == f"{total // 100}.{total % 100:02d}"
    assert stock(shop, row) == before - (5 - item["quantity"])


@pytest.mark.parametrize(
    ("item", "quantity", "why"),
    [(0, 1, "no_such_item"), (2, 1, "no_such_item"), (-1, 1, "no_such_item"), (1, 0, "quantity_limit"),
     (1, -1, "quantity_limit"), (1, 11, "quantity_limit"), (1, 2**62, "quantity_limit")],
)  # fmt: skip
def test_change_of_an_unknown_item_or_impossible_quantity_is_refused(shop, item, quantity, why):
    assert reason(ask(shop, "POST", "/v1/orders/20260002/items", "alice", item=item, quantity=quantity)) == why


def test_quantity_above_the_stock_is_refused(shop, orders):
    most = {"item": 1, "quantity": 10}
    row = orders.take("awaiting_payment")
    while (answer := ask(shop, "POST", path(row, "items"), row["customer_id"], **most)).status_code == 200:
        row = orders.take("awaiting_payment")
    assert reason(answer) == "out_of_stock"
    assert 0 <= stock(shop, row) < 10 - row["items"][0]["quantity"]
    assert order(shop, row)["items"][0]["quantity"] == row["items"][0]["quantity"]


@pytest.mark.parametrize("status", ["processing", "shipped", "delivered", "cancelled"])
def test_quantity_of_a_paid_order_can_not_change(shop, orders, status):
    row = orders.take(status)
    assert order(shop, row)["items_changeable"] is False
    assert reason(ask(shop, "POST", path(row, "items"), row["customer_id"], item=1, quantity=1)) == "not_changeable"


@pytest.mark.parametrize("status", ["awaiting_payment", "processing"])
def test_address_of_an_order_can_change_before_shipping(shop, orders, status):
    row = orders.take(status)
    assert order(shop, row)["address_changeable"] is True
    answer = ask(shop, "POST", path(row, "address"), row["customer_id"], address="  2 Larch Street, London ")
    assert (answer.status_code, answer.json()["address"]) == (200, "2 Larch Street, London")
    assert order(shop, row) == answer.json()


@pytest.mark.parametrize(
    ("status", "why"),
    [("shipped", "shipped"), ("delivered", "delivered"), ("partly_refunded", "delivered"), ("cancelled", "cancelled")],
)
def test_address_of_an_order_can_not_change_after_shipping(shop, orders, status, why):
    row = orders.take(status)
    before = order(shop, row)
    assert before["address_changeable"] is False
    assert reason(ask(shop, "POST", path(row, "address"), row["customer_id"], address="Elsewhere")) == why
    assert order(shop, row) == before


def test_delivered_order_can_be_refunded_once(shop):
    shown = ask(shop, "GET", "/v1/orders/20260003", "alice").json()
    assert shown["refundable"] == {"until": (today() + timedelta(days=6)).isoformat(), "reason": None}
    asked = ask(shop, "POST", "/v1/orders/20260003/refunds", "alice", reason="坏了")
    refund = asked.json()
    assert asked.status_code == 201
    assert refund["number"][0] == "R"
    assert len(refund["number"]) == 9
    assert (refund["amount"], refund["status"]) == (shown["amount"], "requested")
    assert refund["expected_on"] == (today() + timedelta(days=5)).isoformat()
    assert ask(shop, "POST", "/v1/orders/20260003/refund-lookups", "alice").json() == {"refunds": [refund]}
    again = ask(shop, "POST", "/v1/orders/20260003/refunds", "alice", reason="坏了")
    assert reason(again) == "already_requested"
    after = ask(shop, "GET", "/v1/orders/20260003", "alice").json()
    assert after["refundable"] == {"until": None, "reason": "already_requested"}


@pytest.mark.parametrize(
    ("status", "fits", "why"),
    [
        ("awaiting_payment", lambda row: row["payment_status"] == "failed", "not_paid"),
        ("shipped", paid, "not_delivered"),
        ("processing", lambda row: row["payment_status"] == "charged_twice", "not_delivered"),
        ("delivered", lambda row: row["delivered_days_ago"] is None, "too_late"),
        ("delivered", lambda row: row["delivered_days_ago"] is not None, "already_requested"),
    ],
)
def test_order_shows_why_a_refund_would_be_refused(shop, orders, status, fits, why):
    """A request for the refund is refused with the same reason."""
    row = orders.take(status, fits)
    assert order(shop, row)["refundable"] == {"until": None, "reason": why}
    assert reason(ask(shop, "POST", path(row, "refunds"), row["customer_id"], reason="坏了")) == why


def test_demo_data_have_refunds_in_every_state(shop):
    numbers = {"20260010": "requested", "20260012": "approved", "20260016": "refused", "20260018": "paid"}
    customers = {"20260010": "customer-003", "20260012": "customer-003", "20260016": "customer-005",
                 "20260018": "customer-006"}  # fmt: skip
    states = {}
    for number, customer in customers.items():
        answer = ask(shop, "POST", f"/v1/orders/{number}/refund-lookups", customer, key=None)
        (refund,) = answer.json()["refunds"]
        states[number] = refund["status"]
        assert (refund["paid_on"] is not None) == (refund["status"] == "paid")
        assert (refund["expected_on"] is None) == (refund["status"] == "refused")
    assert states == numbers


def test_invoice_title_can_change_until_it_is_issued(shop, orders):
    row = orders.take("shipped", lambda row: paid(row) and int(row["number"]) % 40 not in (19, 20))
    assert order(shop, row)["invoice"] == "none"
    answer = ask(shop, "POST", path(row, "invoice"), row["customer_id"], title="梧桐贸易有限公司")
    assert (answer.status_code, answer.json()) == (
        201,
        {"status": "requested", "title": "梧桐贸易有限公司", "sent_to": "c***@example.com"},
    )
    assert order(shop, row)["invoice"] == "requested"
    assert ask(shop, "POST", path(row, "invoice"), row["customer_id"], title="个人").json()["title"] == "个人"


@pytest.mark.parametrize(
    ("status", "fits", "why"),
    [
        ("awaiting_payment", lambda row: True, "not_paid"),
        ("cancelled", lambda row: True, "cancelled"),
        ("delivered", lambda row: int(row["number"][4:]) % 40 == 19, "already_issued"),
    ],
)
def test_no_invoice_for_an_unpaid_cancelled_or_invoiced_order(shop, orders, status, fits, why):
    row = orders.take(status, fits)
    assert reason(ask(shop, "POST", path(row, "invoice"), row["customer_id"], title="个人")) == why


@pytest.mark.parametrize("payment", ["unpaid", "paid", "failed", "charged_twice"])
def test_order_shows_its_payment_status_and_method(shop, orders, payment):
    row = next(row for row in orders._left if row["payment_status"] == payment)
    shown = order(shop, row)["payment"]
    assert shown["status"] == payment
    assert (shown["method"] is None) == (payment == "unpaid")


@pytest.mark.parametrize("task", BODIES)
def test_tasks_on_an_order_need_its_owner_or_the_phone_digits(shop, orders, task):
    """Others get the same 404 as for a missing order."""
    status = {"items": "awaiting_payment", "refunds": "delivered", "invoice": "shipped"}.get(task, "processing")
    row = orders.take(status, lambda row: row["payment_status"] in ("paid", "unpaid"))
    wrong = "0000" if row["phone_last4"] != "0000" else "1111"
    before = order(shop, row)
    refusals = [
        ask(shop, "POST", path(row, task), "alice", **BODIES[task]),
        ask(shop, "POST", path(row, task), "nobody", **BODIES[task]),
        ask(shop, "POST", path(row, task), row["customer_id"], tenant="other", **BODIES[task]),
        ask(shop, "POST", f"/v1/orders/99999999/{task}", row["customer_id"], **BODIES[task]),
        ask(shop, "POST", f"/v1/orders/not-one/{task}", row["customer_id"], **BODIES[task]),
        ask(shop, "POST", path(row, task), guest="guest-1", phone_last4=wrong, **BODIES[task]),
        ask(shop, "POST", f"/v1/orders/77777777/{task}", phone_last4=row["phone_last4"], **BODIES[task]),
    ]
    assert {refused.status_code for refused in refusals} == {404}
    assert len({refused.content for refused in refusals}) == 1
    assert order(shop, row) == before
    answer = ask(shop, "POST", path(row, task), guest="guest-1", phone_last4=row["phone_last4"], **BODIES[task])
    assert answer.status_code in (200, 201) or reason(answer) == "too_late"


@pytest.mark.parametrize("task", [*BODIES, "refund-lookups"])
def test_wrong_digits_of_a_task_count_like_wrong_look_ups(shop, orders, task):
    """After five of them, tasks and look-ups of the order are refused to guests with 429."""
    row = orders.take("cancelled")
    body = BODIES.get(task, {})
    wrong = "0000" if row["phone_last4"] != "0000" else "1111"
    answers = [ask(shop, "POST", path(row, task), phone_last4=wrong, **body).status_code for _ in range(5)]
    assert answers == [404] * 5
    locked = ask(shop, "POST", path(row, task), phone_last4=row["phone_last4"], **body)
    assert locked.status_code == 429
    assert int(locked.headers["Retry-After"]) > 0
    look_up = {"number": row["number"], "phone_last4": row["phone_last4"]}
    assert ask(shop, "POST", "/v1/order-lookups", **look_up).status_code == 429


@pytest.mark.parametrize("task", [*BODIES, "refund-lookups"])
def test_task_of_a_guest_without_digits_is_400(shop, task):
    for digits in ({}, {"phone_last4": "123"}, {"phone_last4": 1234}):
        assert ask(shop, "POST", f"/v1/orders/20260001/{task}", **BODIES.get(task, {}), **digits).status_code == 400


@pytest.mark.parametrize(
    ("task", "body"),
    [("items", {"item": "1", "quantity": 1}), ("items", {"item": True, "quantity": 1}), ("items", {"item": 1}),
     ("address", {}), ("address", {"address": 5}), ("refunds", {}), ("invoice", {"title": ["x"]})],
)  # fmt: skip
def test_task_with_fields_of_wrong_types_is_400(shop, task, body):
    assert ask(shop, "POST", f"/v1/orders/20260002/{task}", "alice", **body).status_code == 400


@pytest.mark.parametrize(
    ("task", "field", "limit"),
    [("address", "address", 200), ("refunds", "reason", 500), ("invoice", "title", 100),
     ("cancellation", "reason", 500)],
)  # fmt: skip
@pytest.mark.parametrize("text", ["", "  \n ", "x\x00y", "\x1b[1m", None])
def test_empty_too_long_or_control_text_is_refused_with_a_reason(shop, task, field, limit, text):
    value = "长" * (limit + 1) if text is None else text
    answer = ask(shop, "POST", f"/v1/orders/20260002/{task}", "alice", **{field: value})
    assert reason(answer) == f"bad_{field}"
    assert ask(shop, "GET", "/v1/orders/20260002", "alice").json()["status"] == "awaiting_payment"


def test_address_with_tabs_and_windows_line_ends_is_accepted(shop, orders):
    row = orders.take("processing")
    answer = ask(shop, "POST", path(row, "address"), row["customer_id"], address="2 Larch\tStreet\r\nLondon\r\n")
    assert answer.json()["address"] == "2 Larch Street\nLondon"


def test_staff_ship_an_order_in_processing(shop, orders):
    row = orders.take("processing")
    carrier = {"carrier_zh": "顺丰速运", "carrier_en": "SF Express", "tracking_number": "SF1"}
    shipped = ask(shop, "POST", path(row, "shipment"), **carrier).json()
    assert (shipped["status"], shipped["tracking_number"]) == ("shipped", "SF1")
    assert reason(ask(shop, "POST", path(row, "shipment"), **carrier)) == "shipped"
    assert reason(ask(shop, "POST", path(row, "cancellation"), row["customer_id"])) == "shipped"
    assert ask(shop, "POST", "/v1/orders/99999999/shipment", **carrier).status_code == 404
