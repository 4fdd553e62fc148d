"""The only client of the company's order system. In: typed questions. Out: typed answers or `ShopUnavailable`.

To point Kefu at another order system, change this file. Nothing of a customer enters a log or an
error from here: they name the call, the class of the failure, the status.
"""

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Any

import httpx
import orjson
import stamina

from kefu.errors import Retry, SettingsError
from kefu.metrics import RETRIES, SHOP_FAILURES, SHOP_SECONDS

ATTEMPTS = 3
MAX_CONNECTIONS = 20  # httpx searches all at each call: with 32 calls at once 3.2 ms of CPU at 8, 4.5 at 100
IDLE_S = 30  # shorter than the shop keeps an idle connection, so that a call never meets a closed one
TRY_AGAIN = (502, 503, 504)


class ShopUnavailable(Retry):
    """The shop gave no usable answer within the time given, retries included."""

    def __init__(self, call: str, reason: str) -> None:
        super().__init__(f"shop call {call} failed: {reason}")
        self.call = call
        self.reason = reason


@dataclass(frozen=True)
class Order:
    """An order that the asker may see. Amounts are decimal strings; `carrier` by language, zh and en."""

    number: str
    status: str
    amount: str
    refunded: str
    currency: str
    carrier: dict[str, str] | None
    tracking_number: str | None
    delivered_on: date | None


@dataclass(frozen=True)
class NotFound:
    """No such order for this asker: unknown, another's, or wrong digits. Nobody can tell which."""


@dataclass(frozen=True)
class TooManyAttempts:
    """A guest tried this number too often."""

    retry_after_s: int


Found = Order | NotFound | TooManyAttempts


class _TryAgain(Exception):
    """The shop said that another attempt may succeed."""


class Shop:
    """Calls to the shop over kept connections, each bounded by a budget that its retries share.

    Args:
        url: where the shop is, `http://` or `https://`.
        token: the service token that the shop admits.
        budget_s: longest time of a look-up with all its attempts, in seconds; an inquiry gets half as much on top.
    """

    def __init__(self, url: str, token: str, budget_s: float) -> None:
        if not url.startswith(("http://", "https://")):
            raise SettingsError("SHOP_URL", "must start with http:// or https://")
        self._budget_s = budget_s
        # Who waits here may give up; httpx 0.28 never gets back the connection of one who gave up waiting in its
        # own pool, so that nobody may: after a slow spell of the shop the pool would be empty for ever.
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            # An attempt may take less than half of the budget, so that a hanging one leaves time for another.
            timeout=httpx.Timeout(budget_s * 0.45, pool=budget_s),
            limits=httpx.Limits(max_connections=2 * MAX_CONNECTIONS, keepalive_expiry=IDLE_S),
            trust_env=False,  # a proxy of the environment has no business between us and the shop
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def own_order(self, tenant: str, customer: str, number: str) -> Found:
        """Return a known customer's order. Raises ShopUnavailable."""
        headers = {"X-Tenant": tenant, "X-Customer": customer}
        return _found("order", await self._call("order", "GET", f"/v1/orders/{number}", headers=headers))

    async def guest_order(self, tenant: str, number: str, phone_last4: str) -> Found:
        """Return the order of a guest who knows the end of its phone number. Raises ShopUnavailable."""
        body = {"number": number, "phone_last4": phone_last4}
        answer = await self._call("guest_order", "POST", "/v1/order-lookups", headers={"X-Tenant": tenant}, json=body)
        return _found("guest_order", answer)

    async def record_inquiry(self, tenant: str, number: str, key: str) -> None:
        """Tell the shop's staff that this order was asked about; once for each key. Raises ShopUnavailable."""
        headers = {"X-Tenant": tenant, "Idempotency-Key": key}
        body = {"number": number, "kind": "tracking"}
        budget_s = self._budget_s * 0.45  # it comes on top of a look-up, and nobody waits for it
        answer = await self._call("inquiry", "POST", "/v1/inquiries", budget_s, headers=headers, json=body)
        if answer.status_code not in (200, 201):
            raise _unusable("inquiry", answer)

    async def _call(
        self, call: str, method: str, path: str, budget_s: float | None = None, **request: Any
    ) -> httpx.Response:
        try:
            with SHOP_SECONDS.labels(call).time():
                async with asyncio.timeout(budget_s or self._budget_s):
                    return await self._attempts(method, path, request)
        except (TimeoutError, httpx.HTTPError, _TryAgain) as error:
            SHOP_FAILURES.labels(call).inc()
            raise ShopUnavailable(call, type(error).__name__) from error

    async def _attempts(self, method: str, path: str, request: dict[str, Any]) -> httpx.Response:
        retries = stamina.retry_context(
            on=(httpx.TransportError, _TryAgain),
            attempts=ATTEMPTS,
            timeout=None,  # the budget bounds them all
            wait_initial=self._budget_s / 40,
            wait_max=self._budget_s / 10,
            wait_jitter=self._budget_s / 40,
        )
        async for attempt in retries:
            with attempt:
                if attempt.num > 1:
                    RETRIES.labels("shop").inc()
                async with self._room:
                    response = await self._client.request(method, path, **request)
                if response.status_code in TRY_AGAIN:
                    raise _TryAgain
        return response


def _found(call: str, answer: httpx.Response) -> Found:
    if answer.status_code == 404:
        return NotFound()
    if answer.status_code == 429:
        return TooManyAttempts(int(answer.headers.get("Retry-After", "60")))
    if answer.status_code != 200:
        raise _unusable(call, answer)
    try:
        return _order(orjson.loads(answer.content))
    except (ValueError, KeyError, TypeError):  # `from None`: the error may show what the shop sent
        raise ShopUnavailable(call, "unreadable answer") from None


def _unusable(call: str, answer: httpx.Response) -> ShopUnavailable:
    SHOP_FAILURES.labels(call).inc()
    return ShopUnavailable(call, f"status {answer.status_code}")


def _order(body: dict[str, Any]) -> Order:
    delivered_on = body["delivered_on"]
    return Order(
        number=body["number"],
        status=body["status"],
        amount=body["amount"],
        refunded=body["refunded"],
        currency=body["currency"],
        carrier=body["carrier"],
        tracking_number=body["tracking_number"],
        delivered_on=date.fromisoformat(delivered_on) if delivered_on else None,
    )
