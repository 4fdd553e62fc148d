"""Many concurrent customers of the gateway, and checks of the replies that they received."""

import asyncio
import sqlite3
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

import httpx
import jwt

from ops.local.stack import Stack
from tests.waiting import eventually

TEXTS = ("hello", "我的订单20260001到哪了", "thanks", "where is my order 20260001?", "再见")


@dataclass
class Customer:
    """One conversation. `accepted` are message ids answered with 202, in the order they were sent."""

    client: httpx.AsyncClient
    user: str
    token: str
    accepted: List[str] = field(default_factory=list)

    async def request(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Repeat a request until it has an answer other than 429 and 503, and return the answer."""

        async def answered() -> Optional[httpx.Response]:
            answer = await self.client.request(method, path, headers=self.headers, **content)
            return None if answer.status_code in (429, 503) else answer

        return await eventually(answered, f"{method} {path} to be answered", not_yet=(httpx.TransportError,))

    async def send(self, text: str) -> str:
        """Send until the gateway accepts; returns the message's id."""
        message_id = uuid.uuid4().hex
        body = {"text": text, "message_id": message_id}
        answer = await self.request("POST", "/v1/messages", json=body)
        assert answer.status_code == 202, answer.text
        self.accepted.append(message_id)
        return message_id

    async def outcome(self, message_id: str) -> Dict[str, Any]:
        """Return a message's status and replies, once it is answered or failed."""

        async def known() -> Optional[Dict[str, Any]]:
            answer = await self.request("GET", f"/v1/messages/{message_id}")
            return answer.json() if answer.status_code == 200 and answer.json()["status"] != "queued" else None

        return await eventually(known, f"the outcome of {message_id}")

    async def replies(self) -> List[Dict[str, Any]]:
        """Return all replies of the conversation, page by page."""
        replies: List[Dict[str, Any]] = []
        while True:
            after = replies[-1]["seq"] if replies else 0
            answer = await self.request("GET", f"/v1/replies?after={after}")
            answer.raise_for_status()
            page = answer.json()["replies"]
            if not page:
                return replies
            replies += page

    async def outcomes(self) -> List[Dict[str, Any]]:
        """Return the present status and replies of each accepted message."""
        answers = [await self.request("GET", f"/v1/messages/{message_id}") for message_id in self.accepted]
        return [answer.json() for answer in answers]

    @property
    def headers(self) -> Dict[str, str]:
        """The customer's authorization."""
        return {"Authorization": f"Bearer {self.token}"}


def known_customer(client: httpx.AsyncClient, user: str, token_secret: str) -> Customer:
    """Return a customer whose token the shop's own backend minted."""
    now = int(time.time())
    claims = {"sub": user, "tenant": "demo", "iat": now, "exp": now + 3600}
    return Customer(client, user, jwt.encode(claims, token_secret, algorithm="HS256"))


async def wait_until_answered(customers: List[Customer]) -> None:
    """Wait until every accepted message is answered or failed."""
    waiting = list(customers)

    async def answered() -> bool:
        counts = await asyncio.gather(*(count(customer) for customer in waiting), return_exceptions=True)
        waiting[:] = [
            customer
            for customer, got in zip(waiting, counts, strict=True)
            if isinstance(got, BaseException) or got < len(customer.accepted)
        ]
        return not waiting

    await eventually(answered, f"all answers of {len(customers)} customers")


async def wait_until_all_have_a_status(customers: List[Customer]) -> None:
    """Wait until the last message of each conversation is answered: all messages before it then are, too."""
    for customer in customers:
        last = await customer.outcome(customer.accepted[-1])
        assert last["status"] == "answered"


async def count(customer: Customer) -> int:
    """Return how many messages of the conversation have replies."""
    return len({reply["message_id"] for reply in await customer.replies()})


async def check_promises(customers: List[Customer]) -> None:
    """Check that each message is answered once: its replies are in order, without a gap, and there are no others."""
    for customer in customers:
        replies = await customer.replies()
        assert [reply["seq"] for reply in replies] == list(range(1, len(replies) + 1))
        outcomes = await customer.outcomes()
        assert {outcome.get("status") for outcome in outcomes} == {"answered"}
        assert all(outcome["replies"] for outcome in outcomes)
        expected = [(reply["seq"], outcome["message_id"]) for outcome in outcomes for reply in outcome["replies"]]
        assert [(reply["seq"], reply["message_id"]) for reply in replies] == expected


def shop_rows(stack: Stack, query: str, *arguments: Any) -> List[Any]:
    """Return the rows that a query of the shop's database gives."""
    with sqlite3.connect(f"file:{stack.shop_database}?mode=ro", uri=True) as database:
        return database.execute(query, arguments).fetchall()
