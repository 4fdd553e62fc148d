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

    async def request(self, method: str, path: str, deadline_s: float = 60, **content: Any) -> httpx.Response:
        """Ask until it is neither put off nor unanswered, as a client with patience does: the same request again."""
        deadline = time.monotonic() + deadline_s
        while True:
            try:
                answer = await self.client.request(method, path, headers=self.headers, **content)
                if answer.status_code not in (429, 503):
                    return answer
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, f"{method} {path} was put off for {deadline_s:.0f} s"
            await asyncio.sleep(0.2)

    async def send(self, text: str) -> str:
        """Send until the gateway accepts; returns the message's id."""
        message_id = uuid.uuid4().hex
        body = {"text": text, "message_id": message_id}
        answer = await self.request("POST", "/v1/messages", 120, json=body)
        assert answer.status_code == 202, answer.text
        self.accepted.append(message_id)
        return message_id

    async def outcome(self, message_id: str, deadline_s: float = 120) -> Dict[str, Any]:
        """Return what became of a message, as soon as anything did."""
        deadline = time.monotonic() + deadline_s
        while True:
            answer = await self.request("GET", f"/v1/messages/{message_id}")
            if answer.status_code == 200 and answer.json()["status"] != "queued":
                return answer.json()
            assert time.monotonic() < deadline, f"{message_id} has no outcome within {deadline_s:.0f} s"
            await asyncio.sleep(0.1)

    async def replies(self) -> List[Dict[str, Any]]:
        """Return all replies of the conversation, page by page."""
        found: List[Dict[str, Any]] = []
        while True:
            after = found[-1]["seq"] if found else 0
            answer = await self.request("GET", f"/v1/replies?after={after}")
            answer.raise_for_status()
            page = answer.json()["replies"]
            if not page:
                return found
            found += page

    async def outcomes(self) -> List[Dict[str, Any]]:
        """Return what became of each accepted message."""
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
        last = await customer.outcome(customer.accepted[-1], deadline - time.monotonic())
        assert last["status"] == "answered"


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
