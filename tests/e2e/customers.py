"""Many customers who talk through the gateway at once, and what they must have got in the end."""

import asyncio
import sqlite3
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, List

import httpx
import jwt

from ops.local.stack import Stack

TEXTS = ("hello", "我的订单20260001到哪了", "thanks", "where is my order 20260001?", "再见")


@dataclass
class Customer:
    """One conversation. `accepted` are message ids answered with 202, in the order they were sent."""

    client: httpx.AsyncClient
    user: str
    token: str
    accepted: List[str] = field(default_factory=list)

    async def send(self, text: str) -> str:
        """Send until the gateway accepts, as a client with patience does; returns the message's id."""
        message_id = uuid.uuid4().hex
        deadline = time.monotonic() + 120
        while True:
            try:
                answer = await self.client.post(
                    "/v1/messages", json={"text": text, "message_id": message_id}, headers=self.headers
                )
                if answer.status_code == 202:
                    self.accepted.append(message_id)
                    return message_id
                assert answer.status_code in (429, 503), answer.text
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "the gateway did not accept within two minutes"
            await asyncio.sleep(0.2)

    async def replies(self) -> List[Dict[str, Any]]:
        """Return all replies of the conversation, page by page."""
        found: List[Dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            answer = await self.client.get(f"/v1/replies?after={after}", headers=self.headers)
            answer.raise_for_status()
            page = answer.json()["replies"]
            if not page:
                return found
            found += page

    async def outcomes(self) -> List[Dict[str, Any]]:
        """Return what became of each accepted message."""
        answers = [
            await self.client.get(f"/v1/messages/{message_id}", headers=self.headers) for message_id in self.accepted
        ]
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


async def wait_until_answered(customers: List[Customer], deadline_s: float) -> None:
    """Wait until every accepted message is answered or failed; says how many are not."""
    deadline = time.monotonic() + deadline_s
    waiting = list(customers)
    while waiting:
        counts = await asyncio.gather(*(count(customer) for customer in waiting), return_exceptions=True)
        waiting = [
            customer
            for customer, got in zip(waiting, counts, strict=True)
            if isinstance(got, BaseException) or got < len(customer.accepted)
        ]
        assert not waiting or time.monotonic() < deadline, f"{len(waiting)} conversations are not answered in full"
        await asyncio.sleep(0.3)


async def wait_until_all_have_a_status(customers: List[Customer], deadline_s: float) -> None:
    """Wait until the last message of each conversation is answered: then all before it are."""
    deadline = time.monotonic() + deadline_s
    for customer in customers:
        last = f"/v1/messages/{customer.accepted[-1]}"
        while (await customer.client.get(last, headers=customer.headers)).json().get("status") != "answered":
            assert time.monotonic() < deadline, "the last message is not answered"
            await asyncio.sleep(0.1)


async def count(customer: Customer) -> int:
    """Return how many messages of the conversation have replies."""
    return len({reply["message_id"] for reply in await customer.replies()})


async def check_promises(customers: List[Customer]) -> None:
    """None lost, none twice, in order, no gap: each message has replies, and all that are there are its outcome's."""
    for customer in customers:
        replies = await customer.replies()
        assert [reply["seq"] for reply in replies] == list(range(1, len(replies) + 1))
        outcomes = await customer.outcomes()
        assert {outcome.get("status") for outcome in outcomes} == {"answered"}
        assert all(outcome["replies"] for outcome in outcomes)
        told = [(reply["seq"], outcome["message_id"]) for outcome in outcomes for reply in outcome["replies"]]
        assert [(reply["seq"], reply["message_id"]) for reply in replies] == told


def shop_rows(stack: Stack, query: str, *arguments: Any) -> List[Any]:
    """Return what the shop's database holds."""
    with sqlite3.connect(f"file:{stack.shop_database}?mode=ro", uri=True) as database:
        return database.execute(query, arguments).fetchall()
