"""HTTP calls to the shop, with kept connections, a time budget per call, and retries.

Logs and errors contain nothing about the customer: they name the call, the class of the failure, and the status.
"""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
import orjson
import stamina

from actions.shop.answers import NotFound, Refused, TooManyAttempts
from kefu.errors import Retry, SettingsError
from kefu.metrics import RETRIES, SHOP_FAILURES, SHOP_SECONDS

ATTEMPTS = 3  # most attempts of one call; after the last one the call has failed
# Limits the calls at a time; further calls wait. httpx searches all connections at each call: 32 calls at once cost
# 3.2 ms of CPU with 8 connections, 4.5 ms with 100.
MAX_CONNECTIONS = 20
IDLE_S = 30  # an idle connection is closed after this time, which is shorter than the shop's own limit
TRY_AGAIN = (502, 503, 504)  # statuses of a shop that is down for a moment
BUSY_S = 60  # wait after 429 if the shop gives no number of seconds
T = TypeVar("T")


class ShopUnavailable(Retry):
    """The shop gave no usable answer within the budget, retries included.

    Attributes:
        call: name of the call.
        reason: class of the failure or status, without anything about the customer.
        refused: whether the shop rejects the call itself, so that a retry can't help.
    """

    def __init__(self, call: str, reason: str, refused: bool = False) -> None:
        super().__init__(f"shop call {call} failed: {reason}")
        self.call = call
        self.reason = reason
        self.refused = refused


class _TryAgain(Exception):
    """The shop answered with a status of TRY_AGAIN: another attempt may succeed."""


class Calls:
    """Makes HTTP calls to the shop over kept connections. A call and its retries share one time budget.

    Args:
        url: URL of the shop, `http://` or `https://`.
        token: service token that the shop accepts.
        budget_s: longest time of a call with all its attempts, in seconds.
    """

    def __init__(self, url: str, token: str, budget_s: float) -> None:
        if not url.startswith(("http://", "https://")):
            raise SettingsError("SHOP_URL", "must start with http:// or https://")
        self.budget_s = budget_s
        # Calls wait for a connection here, not in httpx's pool: httpx 0.28 loses the connection of a call that is
        # cancelled while it waits in the pool. After a slow phase of the shop the pool would stay empty.
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            # An attempt gets less than half of the budget: if it hangs, there is time for another.
            timeout=httpx.Timeout(budget_s * 0.45, pool=budget_s),
            limits=httpx.Limits(max_connections=2 * MAX_CONNECTIONS, keepalive_expiry=IDLE_S),
            trust_env=False,  # calls to the shop must not go through a proxy of the environment
        )

    async def close(self) -> None:
        """Close the connections to the shop."""
        await self._client.aclose()

    async def make(self, call: str, method: str, path: str, **request: Any) -> httpx.Response:
        """Return the shop's answer, whatever its status. A call may be sent twice, so one with an effect needs a key.

        Raises:
            ShopUnavailable: no answer came within the budget; an effect may have happened or not.
        """
        try:
            with SHOP_SECONDS.labels(call).time():
                async with asyncio.timeout(self.budget_s):
                    return await self._attempts(method, path, request)
        except (TimeoutError, httpx.HTTPError, _TryAgain) as error:
            SHOP_FAILURES.labels(call).inc()
            raise ShopUnavailable(call, type(error).__name__) from error

    async def _attempts(self, method: str, path: str, request: dict[str, Any]) -> httpx.Response:
        retries = stamina.retry_context(
            on=(httpx.TransportError, _TryAgain),
            attempts=ATTEMPTS,
            timeout=None,  # the budget limits all attempts together
            wait_initial=self.budget_s / 40,
            wait_max=self.budget_s / 10,
            wait_jitter=self.budget_s / 40,
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


def understood(
    call: str, answer: httpx.Response, read: Callable[[dict[str, Any]], T], guessed: bool = False
) -> T | NotFound | TooManyAttempts | Refused:
    """Return the typed value of an answer.

    Args:
        call: name of the call.
        answer: the shop's answer.
        read: reads the value from the body.
        guessed: whether a guest gave an order number and phone digits. The shop limits such attempts by 429; for any
            other call a 429 means that the shop is busy.

    Raises:
        ShopUnavailable: an answer that no customer can cause.
    """
    status = answer.status_code
    if status == 404:
        return NotFound()
    if status == 429 and guessed:
        wait_s = answer.headers.get("Retry-After", "")
        return TooManyAttempts(int(wait_s) if wait_s.isdecimal() else BUSY_S)  # Retry-After may also be a date
    if not (200 <= status < 300 or status in (403, 409)):
        raise unusable(call, answer)
    try:
        body = orjson.loads(answer.content)
        return read(body) if status < 300 else Refused(body["reason"])
    except (ValueError, KeyError, TypeError):  # `from None`: the error's text may contain the shop's answer
        raise ShopUnavailable(call, "unreadable answer") from None


def unusable(call: str, answer: httpx.Response) -> ShopUnavailable:
    """Return the error for an answer with a status that no customer can cause. Counts it as a failure."""
    SHOP_FAILURES.labels(call).inc()
    status = answer.status_code
    return ShopUnavailable(call, f"status {status}", refused=400 <= status < 500 and status != 429)
