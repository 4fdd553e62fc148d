"""Asking the shop for effects, and orders to try them on."""

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
    """Send a request; `key` "" is a new one, None is none."""
    headers = {"X-Tenant": tenant, "X-Customer": customer, "X-Guest": guest}
    headers["Idempotency-Key"] = new_key() if key == "" else key
    sent = {name: value for name, value in headers.items() if value is not None}
    return shop.http.request(method, path, headers=sent, json=body if method != "GET" else None)


def asking(*request: Any, **options: Any) -> Callable[[Server], httpx.Response]:
    """Return `ask` for a shop that is named later."""
    return lambda shop: ask(shop, *request, **options)


def order(shop: Server, row: dict[str, Any]) -> dict[str, Any]:
    """Return the order as its owner sees it."""
    answer = ask(shop, "GET", f"/v1/orders/{row['number']}", row["customer_id"])
    assert answer.status_code == 200
    return answer.json()


class Orders:
    """The demo's orders, each given once: what a test does to one disturbs no other. Alice's and bob's are kept."""

    def __init__(self) -> None:
        self._left = [row for row in demo.orders() if row["customer_id"] not in ("alice", "bob")]
        self._phones = {row["id"]: row["phone"] for row in demo.customers()}

    def take(self, status: str, fits: Callable[[dict[str, Any]], bool] = lambda row: True) -> dict[str, Any]:
        """Return a row with `phone_last4`."""
        found = next(row for row in self._left if row["status"] == status and fits(row))
        self._left.remove(found)
        return {**found, "phone_last4": self._phones[found["customer_id"]][-4:]}


def paid(row: dict[str, Any]) -> bool:
    return row["payment_status"] == "paid"


def path(row: dict[str, Any], task: str) -> str:
    return f"/v1/orders/{row['number']}/{task}"
