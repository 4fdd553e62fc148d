"""The calls to the shop. Every effect carries an Idempotency-Key: a call that is sent twice has its effect once."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

from actions.shop import parsing
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
from actions.shop.background import BackgroundEffects
from actions.shop.calls import Calls, understood, unusable

T = TypeVar("T")
Unfound = NotFound | TooManyAttempts  # the answers of a call about an order by which the shop gives no order
NUMBER = re.compile(r"[0-9]{8}")
MOST = 10**9  # limits the numbers that are sent to the shop, see `_counted`
GUEST = "known_customers_only"  # reason of a refusal to a guest


class Shop:
    """The calls to the shop. They raise only ShopUnavailable: the shop gave no usable answer in time.

    `key` is the Idempotency-Key of an effect; a repeated call has the same key.
    After ShopUnavailable an effect may have happened or not; repeating the call with the same key settles it.

    Args:
        url: URL of the shop, `http://` or `https://`.
        token: service token that the shop accepts.
        budget_s: longest time of a call with all its attempts, in seconds.
    """

    def __init__(self, url: str, token: str, budget_s: float) -> None:
        self._calls = Calls(url, token, budget_s)
        self._background = BackgroundEffects()

    async def close(self) -> None:
        """End the background effects and close the connections."""
        await self._background.close()
        await self._calls.close()

    # Orders of a known customer, or of a guest who gives the phone's last four digits.

    async def order(self, asker: Asker, number: str) -> Order | Unfound:
        """Return the order with this number, if the asker may see it."""
        if asker.customer is not None:
            return await self._of_order("order", asker, number, "", parsing.order, method="GET")
        if not NUMBER.fullmatch(number):
            return NotFound()
        body = {"number": number, "phone_last4": asker.phone_last4}
        return await self._ask("order", asker, "POST", "/v1/order-lookups", parsing.order, body, of_order=True)

    async def orders(self, asker: Asker) -> list[Order] | Refused:
        """Return a known customer's newest orders, fifty at most."""
        if asker.customer is None:
            return Refused(GUEST)
        return await self._ask("orders", asker, "GET", "/v1/orders", parsing.many("orders", parsing.order))

    async def cancel(self, asker: Asker, number: str, key: str, fee: str | None) -> Cancellation | Refused | Unfound:
        """Cancel an order for this fee; None accepts any fee.

        Refused: shipped, delivered, already_cancelled, fee_changed.
        """
        body = {} if fee is None else {"fee": fee}
        return await self._of_order("cancel", asker, number, "/cancellation", parsing.cancellation, body, key)

    async def change_item(
        self, asker: Asker, number: str, item: int, quantity: int, key: str
    ) -> Order | Refused | Unfound:
        """Change the quantity of an item; item 1 is the first.

        Refused: not_changeable, out_of_stock, no_such_item, quantity_limit.
        """
        body = {"item": _counted(item), "quantity": _counted(quantity)}
        return await self._of_order("change_item", asker, number, "/items", parsing.order, body, key)

    async def change_address(self, asker: Asker, number: str, address: str, key: str) -> Order | Refused | Unfound:
        """Change the delivery address of an order. Refused: shipped, delivered, cancelled, bad_address."""
        body = {"address": address}
        return await self._of_order("change_address", asker, number, "/address", parsing.order, body, key)

    async def request_refund(self, asker: Asker, number: str, reason: str, key: str) -> Refund | Refused | Unfound:
        """Request a refund. Refused: not_paid, not_delivered, too_late, already_requested, bad_reason."""
        body = {"reason": reason}
        return await self._of_order("request_refund", asker, number, "/refunds", parsing.refund, body, key)

    async def refunds(self, asker: Asker, number: str) -> list[Refund] | Unfound:
        """Return the refunds of an order, the newest first."""
        read = parsing.many("refunds", parsing.refund)
        return await self._of_order("refunds", asker, number, "/refund-lookups", read, {})

    async def request_invoice(self, asker: Asker, number: str, title: str, key: str) -> Invoice | Refused | Unfound:
        """Request an invoice to the name `title`. Refused: not_paid, already_issued, cancelled, bad_title."""
        body = {"title": title}
        return await self._of_order("request_invoice", asker, number, "/invoice", parsing.invoice, body, key)

    async def record_inquiry(self, tenant: str, number: str, key: str) -> None:
        """Record for the shop's staff that a customer asked about this order, once for each key.

        Never raises: the reply to the customer doesn't depend on it. After about half of the budget it goes on in
        the background.
        """
        headers = {"X-Tenant": tenant, "Idempotency-Key": key}
        body = {"number": number, "kind": "tracking"}

        async def tell() -> None:
            answer = await self._calls.make("inquiry", "POST", "/v1/inquiries", headers=headers, json=body)
            if answer.status_code not in (200, 201):
                raise unusable("inquiry", answer)

        await self._background.run(tell, self._calls.budget_s * 0.45)

    # Accounts of known customers. A guest gets Refused("known_customers_only") without a call.
    # NotFound: the shop has no account with that id.

    async def add_address(self, asker: Asker, address: str, default: bool, key: str) -> Address | Refused | NotFound:
        """Add an address to the customer's address book. Refused: bad_address, too_many."""
        body = {"address": address, "default": default}
        return await self._own("add_address", asker, "POST", "/v1/addresses", parsing.address, body, key)

    async def rename(self, asker: Asker, name: str, key: str) -> Account | Refused | NotFound:
        """Change the name on the account. Refused: bad_name."""
        return await self._own("rename", asker, "PATCH", "/v1/account", parsing.account, {"name": name}, key)

    async def reset_password(self, asker: Asker, key: str) -> str | Refused | NotFound:
        """Have the shop send a link for a new password; return the masked address that it goes to."""
        path = "/v1/account/password-resets"
        return await self._own("reset_password", asker, "POST", path, lambda body: str(body["sent_to"]), {}, key)

    async def delete_account(self, asker: Asker, key: str) -> Deletion | Refused | NotFound:
        """Request the deletion of the account, which the shop carries out some days later."""
        return await self._own("delete_account", asker, "POST", "/v1/account/deletion", parsing.deletion, {}, key)

    async def subscribe(self, asker: Asker, subscribed: bool, key: str) -> bool | Refused | NotFound:
        """Subscribe to the newsletter or unsubscribe from it; return whether the customer is subscribed now."""
        body = {"subscribed": subscribed}
        return await self._own(
            "subscribe", asker, "PUT", "/v1/newsletter", lambda answer: answer["subscribed"] is True, body, key
        )

    # Calls for customers and guests.

    async def open_ticket(
        self, asker: Asker, kind: str, text: str, key: str, *,
        order: str | None = None, call_at: str | None = None,
    ) -> Ticket | Refused | NotFound:  # fmt: skip
        """Open a ticket for the shop's staff. Refused: bad_text, bad_call_at.

        Args:
            asker: a customer or a guest with id.
            kind: complaint, callback or payment.
            text: the matter in the customer's words.
            key: the effect's Idempotency-Key.
            order: number of the order that the ticket is about.
            call_at: time of the call, ISO 8601 with zone; within the shop's service hours.
        """
        given = {"order": order, "call_at": call_at}
        body = {"kind": kind, "text": text, **{name: value for name, value in given.items() if value is not None}}
        return await self._ask("open_ticket", asker, "POST", "/v1/tickets", parsing.ticket, body, key)

    async def products(self, tenant: str, query: str) -> list[Product]:
        """Return the products whose name or synonym in either language matches best; all for an empty query."""
        read = parsing.many("products", parsing.product)
        return await self._ask("products", Asker(tenant), "GET", "/v1/products", read, params={"q": query})

    async def policies(self, tenant: str) -> Policies | NotFound:
        """Return the shop's rules."""
        return await self._ask("policies", Asker(tenant), "GET", "/v1/policies", parsing.policies)

    async def _of_order(
        self, call: str, asker: Asker, number: str, rest: str, read: Callable[[dict[str, Any]], T],
        body: dict[str, Any] | None = None, key: str | None = None, method: str = "POST",
    ) -> Any:  # fmt: skip
        if not NUMBER.fullmatch(number):  # the number becomes part of a path
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
    """Return the number, limited to ±MOST, because customers may type any number of digits.

    The shop refuses such a number with the same reason as the customer's number.
    """
    return max(-MOST, min(number, MOST))
