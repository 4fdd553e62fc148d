"""How a call reaches the shop: kept connections, a budget of time, another attempt where one may help.

Nothing of a customer enters a log or an error from here: they name the call, the class of the failure, the status.
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

ATTEMPTS = 3
MAX_CONNECTIONS = 20  # httpx searches all at each call: with 32 calls at once 3.2 ms of CPU at 8, 4.5 at 100
IDLE_S = 30  # shorter than the shop keeps an idle connection, so that a call never meets a closed one
TRY_AGAIN = (502, 503, 504)
BUSY_S = 60  # where a shop that takes no more attempts doesn't say for how long
T = TypeVar("T")


class ShopUnavailable(Retry):
    """The shop gave no usable answer within the time given, retries included.

    Attributes:
        call: which one.
        reason: why not, without anything of the customer's.
        refused: the shop says that the call itself is wrong; it would say so again.
    """

    def __init__(self, call: str, reason: str, refused: bool = False) -> None:
        super().__init__(f"shop call {call} failed: {reason}")
        self.call = call
        self.reason = reason
        self.refused = refused


class _TryAgain(Exception):
    """The shop said that another attempt may succeed."""


class Calls:
    """Calls over kept connections, each bounded by a budget that its retries share.

    Args:
        url: where the shop is, `http://` or `https://`.
        token: the service token that the shop admits.
        budget_s: longest time of a call with all its attempts, in seconds.
    """

    def __init__(self, url: str, token: str, budget_s: float) -> None:
        if not url.startswith(("http://", "https://")):
            raise SettingsError("SHOP_URL", "must start with http:// or https://")
        self.budget_s = budget_s
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

    async def make(self, call: str, method: str, path: str, **request: Any) -> httpx.Response:
        """Return the shop's answer, whatever its status. An effect must carry its key: it may be sent again.

        Raises:
            ShopUnavailable: none came within the budget; an effect may have happened or not.
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
            timeout=None,  # the budget bounds them all
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
    """Return what an answer says.

    Args:
        call: its name.
        answer: of the shop.
        read: makes of its body what the call returns.
        guessed: whether a guest named an order and a phone number: of those the shop takes some only. Anybody else's
            429 says that the shop is busy.

    Raises:
        ShopUnavailable: an answer that no customer may cause.
    """
    status = answer.status_code
    if status == 404:
        return NotFound()
    if status == 429 and guessed:
        wait_s = answer.headers.get("Retry-After", "")
        return TooManyAttempts(int(wait_s) if wait_s.isdecimal() else BUSY_S)  # it may be a date as well
    if not (200 <= status < 300 or status in (403, 409)):
        raise unusable(call, answer)
    try:
        body = orjson.loads(answer.content)
        return read(body) if status < 300 else Refused(body["reason"])
    except (ValueError, KeyError, TypeError):  # `from None`: the error may show what the shop sent
        raise ShopUnavailable(call, "unreadable answer") from None


def unusable(call: str, answer: httpx.Response) -> ShopUnavailable:
    """Return the error of an answer that can't be used."""
    SHOP_FAILURES.labels(call).inc()
    status = answer.status_code
    return ShopUnavailable(call, f"status {status}", refused=400 <= status < 500 and status != 429)
