"""Requests to the shop, and orders of the demo data for them."""

import itertools
from collections.abc import Callable
from typing import Any

import httpx

from ops.local.shop import demo
from tests.integration.shop_fixtures import Server

_keys = itertools.count()


def new_key() -> str:
    return f"key-{next(_keys)}"


def ask(
    shop: Server, method: str, path: str, customer: str | None = None, key: str | None = "", guest: str | None = None,
    tenant: str = "demo", **body: Any,
) -> httpx.Response:  # fmt: skip
    """Send a request. `key` "" means a new idempotency key, None means none."""
    headers = {"X-Tenant": tenant, "X-Customer": customer, "X-Guest": guest}
    headers["Idempotency-Key"] = new_key() if key == "" else key
    sent = {name: value for name, value in headers.items() if value is not None}
    return shop.http.request(method, path, headers=sent, json=body if method != "GET" else None)


def asking(*request: Any, **options: Any) -> Callable[[Server], httpx.Response]:
    """Return a function that calls `ask` for a shop."""
    return lambda shop: ask(shop, *request, **options)


def order(shop: Server, row: dict[str, Any]) -> dict[str, Any]:
    """Return the order as its owner sees it."""
    answer = ask(shop, "GET", f"/v1/orders/{row['number']}", row["customer_id"])
    assert answer.status_code == 200
    return answer.json()


class Orders:
    """The demo's orders, except alice's and bob's. Each is given to one test only: tests don't disturb others."""

    def __init__(self) -> None:
        self._left = [row for row in demo.orders() if row["customer_id"] not in ("alice", "bob")]
        self._phones = {row["id"]: row["phone"] for row in demo.customers()}

    def take(self, status: str, fits: Callable[[dict[str, Any]], bool] = lambda row: True) -> dict[str, Any]:
        """Return the row of an order of this status, with `phone_last4`."""
        order = next(row for row in self._left if row["status"] == status and fits(row))
        self._left.remove(order)
        return {**order, "phone_last4": self._phones[order["customer_id"]][-4:]}


def paid(row: dict[str, Any]) -> bool:
    return row["payment_status"] == "paid"


def path(row: dict[str, Any], task: str) -> str:
    return f"/v1/orders/{row['number']}/{task}"
