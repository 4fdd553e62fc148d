"""Orders as the shop's client returns them and as the shop sends them, for tests without a shop."""

from dataclasses import replace
from datetime import date
from typing import Any

from actions.shop import Item, Order, Payment, Refundable

SHIPPED = Order(
    number="20260001", status="shipped", items=(Item({"zh": "保温杯", "en": "Thermos mug"}, 2, "89.00"),),
    amount="178.00", refunded="0.00", currency="CNY", placed_on=date(2026, 1, 5), address="上海市浦东新区梧桐路1号",
    carrier={"zh": "中通快递", "en": "ZTO Express"}, tracking_number="ZT1", delivered_on=None,
    cancellable=False, cancellation_fee=None, address_changeable=False, items_changeable=False,
    refundable=Refundable(None, "not_delivered"), invoice="none",
    payment=Payment("paid", {"zh": "支付宝", "en": "Alipay"}),
)  # fmt: skip


def sample_order(**changes: Any) -> Order:
    """Return a shipped order with some fields changed."""
    return replace(SHIPPED, **changes)


PROCESSING_JSON = {
    "number": "20260001", "status": "processing", "amount": "1.00", "refunded": "0.00", "currency": "CNY",
    "items": [{"name_zh": "台灯", "name_en": "Desk lamp", "quantity": 1, "price": "1.00"}],
    "placed_on": "2026-01-05", "address": "2 Larch Street, London",
    "carrier": None, "tracking_number": None, "delivered_on": None,
    "cancellable": True, "cancellation_fee": "0.05", "address_changeable": True, "items_changeable": False,
    "refundable": {"until": None, "reason": "not_delivered"}, "invoice": "none",
    "payment": {"status": "paid", "method": None},
}  # fmt: skip
