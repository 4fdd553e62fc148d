"""The calls to the shop. Every effect carries an Idempotency-Key: sent twice, it happens once."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from actions.shop import reading
from actions.shop.answers import (
    Account,
    Address,
    Asker,
    Cancellation,
    Deletion,
    Invoice,
    NotFound,
    Order,
    Policies,
    Product,
    Refund,
    Refused,
    Ticket,
    TooManyAttempts,
)
from actions.shop.behind import Behind
from actions.shop.calls import Calls, understood, unusable

T = TypeVar("T")
Unfound = NotFound | TooManyAttempts  # what may be said of an order instead of an answer
NUMBER = re.compile(r"[0-9]{8}")
MOST = 10**9
GUEST = "known_customers_only"  # the reason where a guest asks for what only a known customer has


class Shop:
    """Calls to the shop. All raise ShopUnavailable when it gives no usable answer in time, and nothing else.

    `key` is the Idempotency-Key of an effect: the same for the same effect, however often it is asked for.
    After ShopUnavailable an effect may have happened or not; the same call with the same key settles it.

    Args:
        url: where the shop is, `http://` or `https://`.
        token: the service token that the shop admits.
        budget_s: longest time of a call with all its attempts, in seconds.
    """

    def __init__(self, url: str, token: str, budget_s: float) -> None:
        self._calls = Calls(url, token, budget_s)
        self._behind = Behind()

    async def close(self) -> None:
        """End what is under way and close the connections."""
        await self._behind.close()
        await self._calls.close()

    # Orders: of a known customer, or of a guest who knows the end of the phone number.

    async def order(self, asker: Asker, number: str) -> Order | Unfound:
        """Return an order."""
        if asker.customer is not None:
            return await self._of_order("order", asker, number, "", reading.order, method="GET")
        if not NUMBER.fullmatch(number):
            return NotFound()
        body = {"number": number, "phone_last4": asker.phone_last4}
        return await self._ask("order", asker, "POST", "/v1/order-lookups", reading.order, body, of_order=True)

    async def orders(self, asker: Asker) -> list[Order] | Refused:
        """Return a known customer's newest orders, fifty at most."""
        if asker.customer is None:
            return Refused(GUEST)
        return await self._ask("orders", asker, "GET", "/v1/orders", reading.many("orders", reading.order))

    async def cancel(self, asker: Asker, number: str, key: str, fee: str | None) -> Cancellation | Refused | Unfound:
        """Cancel an order for that fee, None for any. Refused: shipped, delivered, already_cancelled, fee_changed."""
        body = {} if fee is None else {"fee": fee}
        return await self._of_order("cancel", asker, number, "/cancellation", reading.cancellation, body, key)

    async def change_item(
        self, asker: Asker, number: str, item: int, quantity: int, key: str
    ) -> Order | Refused | Unfound:
        """Change how many pieces of the item (1 is the first) are ordered.

        Refused: not_changeable, out_of_stock, no_such_item, quantity_limit.
        """
        body = {"item": _counted(item), "quantity": _counted(quantity)}
        return await self._of_order("change_item", asker, number, "/items", reading.order, body, key)

    async def change_address(self, asker: Asker, number: str, address: str, key: str) -> Order | Refused | Unfound:
        """Send an order elsewhere. Refused: shipped, delivered, cancelled, bad_address."""
        body = {"address": address}
        return await self._of_order("change_address", asker, number, "/address", reading.order, body, key)

    async def request_refund(self, asker: Asker, number: str, reason: str, key: str) -> Refund | Refused | Unfound:
        """Ask for the money back. Refused: not_paid, not_delivered, too_late, already_requested, bad_reason."""
        body = {"reason": reason}
        return await self._of_order("request_refund", asker, number, "/refunds", reading.refund, body, key)

    async def refunds(self, asker: Asker, number: str) -> list[Refund] | Unfound:
        """Return the refunds of an order, the newest first."""
        read = reading.many("refunds", reading.refund)
        return await self._of_order("refunds", asker, number, "/refund-lookups", read, {})

    async def request_invoice(self, asker: Asker, number: str, title: str, key: str) -> Invoice | Refused | Unfound:
        """Ask for an invoice in the name of `title`. Refused: not_paid, already_issued, cancelled, bad_title."""
        body = {"title": title}
        return await self._of_order("request_invoice", asker, number, "/invoice", reading.invoice, body, key)

    async def record_inquiry(self, tenant: str, number: str, key: str) -> None:
        """Tell the shop's staff that this order was asked about; once for each key.

        Never raises: the answer to the customer is true whether or not the shop could count the question. Half a
        budget later it goes on behind.
        """
        headers = {"X-Tenant": tenant, "Idempotency-Key": key}
        body = {"number": number, "kind": "tracking"}

        async def tell() -> None:
            answer = await self._calls.make("inquiry", "POST", "/v1/inquiries", headers=headers, json=body)
            if answer.status_code not in (200, 201):
                raise unusable("inquiry", answer)

        await self._behind.run(tell, self._calls.budget_s * 0.45)

    # The account: of known customers. A guest gives Refused("known_customers_only") without a call;
    # NotFound: the shop has no account of that id.

    async def add_address(self, asker: Asker, address: str, default: bool, key: str) -> Address | Refused | NotFound:
        """Put an address into the book. Refused: bad_address, too_many."""
        body = {"address": address, "default": default}
        return await self._own("add_address", asker, "POST", "/v1/addresses", reading.address, body, key)

    async def rename(self, asker: Asker, name: str, key: str) -> Account | Refused | NotFound:
        """Change the name on the account. Refused: bad_name."""
        return await self._own("rename", asker, "PATCH", "/v1/account", reading.account, {"name": name}, key)

    async def reset_password(self, asker: Asker, key: str) -> str | Refused | NotFound:
        """Have a link for a new password sent; return the masked address that it goes to."""
        path = "/v1/account/password-resets"
        return await self._own("reset_password", asker, "POST", path, lambda body: str(body["sent_to"]), {}, key)

    async def delete_account(self, asker: Asker, key: str) -> Deletion | Refused | NotFound:
        """Have the account deleted some days from now."""
        return await self._own("delete_account", asker, "POST", "/v1/account/deletion", reading.deletion, {}, key)

    async def subscribe(self, asker: Asker, subscribed: bool, key: str) -> bool | Refused | NotFound:
        """Have the newsletter sent or no longer sent; return whether it is sent now."""
        body = {"subscribed": subscribed}
        return await self._own(
            "subscribe", asker, "PUT", "/v1/newsletter", lambda answer: answer["subscribed"] is True, body, key
        )

    # For everybody.

    async def open_ticket(
        self, asker: Asker, kind: str, text: str, key: str, *,
        order: str | None = None, call_at: str | None = None,
    ) -> Ticket | Refused | NotFound:  # fmt: skip
        """Have somebody of the shop look after it. Refused: bad_text, bad_call_at.

        Args:
            asker: a customer or a guest with id.
            kind: complaint, callback or payment.
            text: what it is about, in the customer's words.
            key: the effect's Idempotency-Key.
            order: number of the order that it is about.
            call_at: when to call, ISO 8601 with zone; within the shop's service hours.
        """
        given = {"order": order, "call_at": call_at}
        body = {"kind": kind, "text": text, **{name: value for name, value in given.items() if value is not None}}
        return await self._ask("open_ticket", asker, "POST", "/v1/tickets", reading.ticket, body, key)

    async def products(self, tenant: str, query: str) -> list[Product]:
        """Return the goods whose name or synonym, in either language, fits best; all for an empty query."""
        read = reading.many("products", reading.product)
        return await self._ask("products", Asker(tenant), "GET", "/v1/products", read, params={"q": query})

    async def policies(self, tenant: str) -> Policies | NotFound:
        """Return the shop's rules."""
        return await self._ask("policies", Asker(tenant), "GET", "/v1/policies", reading.policies)

    async def _of_order(
        self, call: str, asker: Asker, number: str, rest: str, read: Callable[[dict[str, Any]], T],
        body: dict[str, Any] | None = None, key: str | None = None, method: str = "POST",
    ) -> Any:  # fmt: skip
        if not NUMBER.fullmatch(number):  # it becomes part of a path
            return NotFound()
        if asker.customer is None and body is not None:
            body = {**body, "phone_last4": asker.phone_last4}
        return await self._ask(call, asker, method, f"/v1/orders/{number}{rest}", read, body, key, of_order=True)

    async def _own(
        self, call: str, asker: Asker, method: str, path: str, read: Callable[[dict[str, Any]], T],
        body: dict[str, Any] | None = None, key: str | None = None,
    ) -> Any:  # fmt: skip
        if asker.customer is None:
            return Refused(GUEST)
        return await self._ask(call, asker, method, path, read, body, key)

    async def _ask(
        self, call: str, asker: Asker, method: str, path: str, read: Callable[[dict[str, Any]], T],
        body: dict[str, Any] | None = None, key: str | None = None, params: dict[str, str] | None = None,
        of_order: bool = False,
    ) -> Any:  # fmt: skip
        named = {"X-Tenant": asker.tenant, "X-Customer": asker.customer, "Idempotency-Key": key}
        if asker.customer is None:
            named["X-Guest"] = asker.guest
        headers = {name: value for name, value in named.items() if value is not None}
        answer = await self._calls.make(call, method, path, headers=headers, json=body, params=params)
        return understood(call, answer, read, guessed=of_order and asker.customer is None)


def _counted(number: int) -> int:
    """Return a number that JSON keeps whole: people type thirty nines, and the shop refuses a billion as well."""
    return max(-MOST, min(number, MOST))
