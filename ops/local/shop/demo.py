"""The demo data: the same 200 customers and orders on every machine. All of it is invented.

Chinese phone numbers are of the block 138 0000, which is used for examples. The others are of blocks reserved for
fiction: +1 NXX 555 01XX of the North American plan, +44 7700 900XXX of Ofcom. E-mail addresses end in example.com
(RFC 2606).

Besides alice's, these orders are in particular states: 20260010 has a requested refund, 20260012 an approved one,
20260016 a refused one, 20260018 a paid one; 20260013 was charged twice; the payment of 20260015 failed; 20260017 was
paid, then cancelled; the invoice of 20260019 is issued, that of 20260020 is requested. This repeats every forty orders.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from ops.local.shop.demo_goods import GOODS
from ops.local.shop.demo_policies import POLICIES
from ops.local.shop.rules import day, place

TENANT = "demo"
CUSTOMERS = 200
FIRST_DAY = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)  # 10:00 in the shop's time zone

FAMILY_NAMES = "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗"
GIVEN_NAMES = ("晓雨", "思远", "佳宁", "子轩", "雅婷")
FIRST_NAMES = ("Emma", "Noah", "Amara", "Lucas", "Ingrid", "Mateo", "Priya", "Yusuf", "Chloe", "Kenji")
LAST_NAMES = ("Baker", "Okafor", "Lindgren", "Moreau", "Rossi", "Tanaka", "Novak", "Haddad", "Silva", "Murphy")
CHINESE_PLACES = (("上海市", "浦东新区梧桐路"), ("北京市", "朝阳区槐树街"), ("杭州市", "西湖区竹林路"),
                  ("成都市", "锦江区芙蓉街"), ("广州市", "天河区木棉路"))  # fmt: skip
FOREIGN_PLACES = (("London", "Larch Street"), ("Springfield", "Maple Avenue"), ("Manchester", "Cedar Road"),
                  ("Riverton", "Birch Lane"))  # fmt: skip
CARRIERS = (("顺丰速运", "SF Express", "SF"), ("中通快递", "ZTO Express", "ZT"), ("圆通速递", "YTO Express", "YT"),
            ("京东物流", "JD Logistics", "JD"))  # fmt: skip
STATUS_CYCLE = ("delivered", "shipped", "delivered", "processing", "shipped", "awaiting_payment", "delivered",
                "cancelled", "partly_refunded", "delivered")  # fmt: skip
FAILED, CHARGED_TWICE, PAID_THEN_CANCELLED = 15, 13, 17  # order number modulo 20
REFUNDS = {10: "requested", 12: "approved", 16: "refused"}  # order number modulo 40
INVOICES = {19: "issued", 20: "requested"}  # order number modulo 40
PAYMENT_METHODS = POLICIES["payment_methods"]


def customers() -> list[dict[str, Any]]:
    """Return 200 rows: alice, bob, then alternately Chinese and foreign names."""
    known = [
        _customer("alice", "林雨晴", "13800001234", "alice", "上海市", "浦东新区梧桐路1号"),
        _customer("bob", "Bob Murphy", "+447700900567", "bob", "London", "2 Larch Street"),
    ]
    return known + [_invented(n) for n in range(3, CUSTOMERS + 1)]


def orders() -> list[dict[str, Any]]:
    """Return alice's five orders, bob's two, and one to four for every other customer."""
    rows = [*_orders_of_alice(), _order(6, "bob", "shipped"), _order(7, "bob", "processing")]
    sequence = 10
    for n in range(3, CUSTOMERS + 1):
        for _ in range(1 + n % 4):
            rows.append(_order(sequence, f"customer-{n:03d}", STATUS_CYCLE[sequence % len(STATUS_CYCLE)]))
            sequence += 1
    return rows


def _orders_of_alice() -> list[dict[str, Any]]:
    yesterday = {**_order(3, "alice", "delivered"), **_days_ago(1)}
    listed = {1: "shipped", 2: "awaiting_payment", 4: "cancelled", 5: "partly_refunded"}
    rows = [yesterday] + [_order(n, "alice", status) for n, status in listed.items()]
    return sorted(rows, key=lambda row: row["number"])


def _customer(id_: str, name: str, phone: str, mailbox: str, city: str, address: str) -> dict[str, Any]:
    return {"tenant": TENANT, "id": id_, "name": name, "phone": phone, "email": f"{mailbox}@example.com",
            "city": city, "address": address}  # fmt: skip


def _invented(n: int) -> dict[str, Any]:
    id_, half = f"customer-{n:03d}", n // 2
    if n % 2:
        name = FAMILY_NAMES[half % len(FAMILY_NAMES)] + GIVEN_NAMES[half // len(FAMILY_NAMES) % len(GIVEN_NAMES)]
        city, street = CHINESE_PLACES[half % len(CHINESE_PLACES)]
        return _customer(id_, name, f"1380000{5000 + n}", id_, city, f"{street}{n}号")
    name = f"{FIRST_NAMES[half % 10]} {LAST_NAMES[half // 10 % 10]}"
    city, street = FOREIGN_PLACES[half % len(FOREIGN_PLACES)]
    phone = f"+447700900{n:03d}" if half % 2 == 0 else f"+1{202 + n // 100}555{100 + n % 100:04d}"
    return _customer(id_, name, phone, id_, city, f"{n} {street}")


def _order(sequence: int, customer: str, status: str) -> dict[str, Any]:
    sku, zh, en, _, price, *_ = GOODS[sequence % len(GOODS)]
    quantity = 1 + sequence % 2
    placed_at = FIRST_DAY + timedelta(hours=7 * sequence)
    sent = status in ("shipped", "delivered", "partly_refunded")
    carrier_zh, carrier_en, prefix = CARRIERS[sequence % len(CARRIERS)] if sent else (None, None, None)
    arrived = status in ("delivered", "partly_refunded")
    order = {
        "tenant": TENANT, "number": f"2026{sequence:04d}", "customer_id": customer, "status": status,
        "items": [{"sku": sku, "name_zh": zh, "name_en": en, "quantity": quantity, "price_minor": price}],
        "amount_minor": price * quantity, "currency": "CNY", "placed_at": placed_at,
        "refunded_minor": price // 2 if status == "partly_refunded" else 0,
        "carrier_zh": carrier_zh, "carrier_en": carrier_en,
        "tracking_number": f"{prefix}{700000000000 + sequence * 7919}" if sent else None,
        "delivered_on": date.fromordinal(placed_at.date().toordinal() + 4) if arrived else None,
        "delivered_days_ago": None, **_payment(sequence, status),
    }  # fmt: skip
    if order["payment_status"] == "paid" and status == "cancelled":
        order["refunded_minor"] = order["amount_minor"]
    return {**order, **_days_ago(3)} if _refund_status(order) in REFUNDS.values() else order


def _days_ago(days: int) -> dict[str, Any]:
    return {"delivered_on": None, "delivered_days_ago": days}


def _payment(sequence: int, status: str) -> dict[str, Any]:
    paid = {"awaiting_payment": "unpaid", "cancelled": "unpaid"}.get(status, "paid")
    paid = {FAILED: "failed", CHARGED_TWICE: "charged_twice", PAID_THEN_CANCELLED: "paid"}.get(sequence % 20, paid)
    method = PAYMENT_METHODS[sequence % len(PAYMENT_METHODS)] if paid != "unpaid" else {}
    return {"payment_status": paid, "payment_zh": method.get("zh"), "payment_en": method.get("en")}


def addresses(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the address books of these customers: the home address, and a second one for alice."""
    second = {"tenant": TENANT, "customer_id": "alice", "address": "杭州市西湖区竹林路8号", "is_default": False}
    books = [
        {"tenant": row["tenant"], "customer_id": row["id"], "address": place(row["city"], row["address"]),
         "is_default": True}
        for row in rows
    ]  # fmt: skip
    return [books[0], second, *books[1:]]


def _refund_status(order: dict[str, Any]) -> str | None:
    if order["refunded_minor"]:
        return "paid"
    return REFUNDS.get(int(order["number"][4:]) % 40) if order["customer_id"] not in ("alice", "bob") else None


def refunds(rows: list[dict[str, Any]], today: date) -> list[dict[str, Any]]:
    """Return the refunds of these orders: paid ones follow the delivery, others were requested a day before `today`."""
    result = []
    for row in rows:
        status = _refund_status(row)
        if status is None:
            continue
        since = today - timedelta(days=1)
        if status == "paid":
            since = (row["delivered_on"] or day(row["placed_at"])) + timedelta(days=1)
        due = since + timedelta(days=POLICIES["refund_paid_within_days"])
        result.append({
            "tenant": row["tenant"], "number": row["number"], "status": status,
            "amount_minor": row["refunded_minor"] or row["amount_minor"], "reason": "",
            "requested_on": since, "expected_on": None if status == "refused" else due,
            "paid_on": due if status == "paid" else None,
        })  # fmt: skip
    return result


def invoices(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the invoices of these orders."""
    statuses = [(row, INVOICES.get(int(row["number"][4:]) % 40)) for row in rows if row["customer_id"] != "alice"]
    return [
        {"tenant": row["tenant"], "number": row["number"], "status": status, "title": "个人",
         "requested_at": row["placed_at"]}
        for row, status in statuses
        if status
    ]  # fmt: skip
