"""Customers who talk while pods come and go, and who check that every message was answered."""

import base64
import hashlib
import hmac
import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.waiting import until

IDENTITY_SECRET = b"demo-identity-secret"
WAIT_S = 15
PATIENCE_S = 120.0


@dataclass
class Customer:
    """A guest, or a known customer of the demo shop. A message is sent again, under its id, until it is answered."""

    url: str
    user: str = ""
    tenant: str = "demo"
    said: list[str] = field(default_factory=list)
    answered: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    heard: list[int] = field(default_factory=list)

    def open(self) -> None:
        """Get a session."""
        body = {"tenant": self.tenant, "site_key": self.tenant}
        if self.user:
            digest = hmac.new(IDENTITY_SECRET, self.user.encode(), hashlib.sha256).hexdigest()
            body |= {"user_id": self.user, "user_hash": digest}
        self._client = httpx.Client(base_url=self.url, timeout=WAIT_S + 10)
        answer = insist(lambda: self._client.post("/v1/sessions", json=body))
        self._client.headers["Prefer"] = f"wait={WAIT_S}"
        self._client.headers["Authorization"] = f"Bearer {answer.json()['token']}"

    def say(self, text: str) -> list[dict[str, Any]]:
        """Send a text and return the replies."""
        message_id = uuid.uuid4().hex
        self.said.append(message_id)
        body = {"text": text, "message_id": message_id}
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            answer = insist(lambda: self._client.post("/v1/messages", json=body))
            if answer.json()["status"] == "answered":
                self.answered[message_id] = answer.json()["replies"]
                return self.answered[message_id]
        self.failed.append(message_id)
        return []

    def listen(self, stopping: threading.Event) -> None:
        """Read the stream of replies until `stopping`, and reopen it when it ends. Collects the sequence numbers."""
        while not stopping.is_set():
            after = {"Last-Event-ID": str(self.heard[-1] if self.heard else 0)}
            try:
                with self._client.stream("GET", "/v1/stream", headers=after) as stream:
                    for line in stream.iter_lines():
                        if line.startswith("id:"):
                            self.heard.append(int(line[3:]))
                        if stopping.is_set():
                            return
            except httpx.TransportError:
                pass
            time.sleep(0.1)

    def history(self) -> list[dict[str, Any]]:
        """Return every reply that is stored for this customer, in order."""
        replies: list[dict[str, Any]] = []
        while page := self._page(replies[-1]["seq"] if replies else 0):
            replies += page
        return replies

    def _page(self, after: int) -> list[dict[str, Any]]:
        return insist(lambda: self._client.get("/v1/replies", params={"after": after})).json()["replies"]


def insist(call: Callable[[], httpx.Response], put_off: int = 0) -> httpx.Response:
    """Repeat a call while the connection breaks or the answer asks for a repetition.

    Args:
        put_off: a status that asks for a repetition, besides those from 500 on.
    """

    def answered() -> httpx.Response | None:
        answer = call()
        return answer if answer.status_code < 500 and answer.status_code != put_off else None

    return until(answered, "an answer of the gateway", PATIENCE_S, (httpx.TransportError,)).raise_for_status()


def _replies(customer: Customer) -> int:
    return sum(len(replies) for replies in customer.answered.values())


class Desk:
    """An agent of tenant demo who takes conversations over. `secret` is the tenant's desk_secret."""

    def __init__(self, url: str, secret: str) -> None:
        claims = {"sub": "li.wei", "tenant": "demo", "role": "agent", "aud": "kefu-desk", "exp": int(time.time()) + 600}
        token = signed(claims, secret)
        self._client = httpx.Client(base_url=url, timeout=WAIT_S, headers={"Authorization": f"Bearer {token}"})

    def waiting(self, user: str) -> str:
        """Return the id of a customer's hand-over once it is listed."""

        def listed() -> str | None:
            answer = insist(lambda: self._client.get("/v1/desk/conversations?status=waiting"))
            return {each["user"]: each["handoff"] for each in answer.json()["conversations"]}.get(user)

        return until(listed, f"{user} in the desk's list")

    def ask(self, user: str, what: str, handoff: str, **body: str) -> None:
        """Take, write to or return a conversation. The request is repeated under the same id until it is done."""
        asked = {"handoff": handoff, "message_id": uuid.uuid4().hex, **body}
        insist(lambda: self._client.post(f"/v1/desk/conversations/{user}/{what}", json=asked), put_off=202)


def signed(claims: dict[str, Any], secret: str) -> str:
    """Return a JWT (HS256), as a shop's backend makes it."""
    parts = [_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)]
    digest = hmac.new(secret.encode(), ".".join(parts).encode(), hashlib.sha256).digest()
    return ".".join([*parts, _base64(digest)])


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Crowd:
    """Concurrent customers, each in a thread. At the end, their replies are compared with the stored ones."""

    def __init__(self, url: str, number: int, tenants: tuple[str, ...] = ("demo",), pause_s: float = 0.05) -> None:
        self._pause_s = pause_s
        self._customers = [Customer(url, tenant=tenants[place % len(tenants)]) for place in range(number)]
        self._stopping, self._deaf = threading.Event(), threading.Event()
        self._listeners: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._talk, args=(each,)) for each in self._customers]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        end = time.monotonic() + PATIENCE_S
        while any(len(each.heard) < _replies(each) for each in self._customers) and time.monotonic() < end:
            time.sleep(0.1)
        self._deaf.set()
        for thread in self._listeners:
            thread.join()

    @property
    def answers(self) -> int:
        """The number of messages answered so far."""
        return sum(len(each.answered) for each in self._customers)

    def wait_for(self, more: int) -> None:
        """Wait until so many more messages are answered, which so experience the change that was just made."""
        wanted = self.answers + more

        def answered() -> bool:
            assert not self._errors, self._errors
            return self.answers >= wanted

        until(answered, f"{more} more answers")

    def check(self) -> int:
        """Assert that each message was answered once and in order; return the number of messages."""
        assert not self._errors, self._errors
        for each in self._customers:
            assert not each.failed and set(each.said) == set(each.answered)
            stored = each.history()
            numbers = [reply["seq"] for reply in stored]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            received = [reply["seq"] for message in each.said for reply in each.answered[message]]
            assert received[-len(numbers) :] == numbers and received == list(range(1, len(received) + 1))
            assert each.heard == received  # also by streams that were reopened at another pod
        return self.answers

    def _talk(self, customer: Customer) -> None:
        try:
            customer.open()
            listener = threading.Thread(target=customer.listen, args=(self._deaf,), daemon=True)
            listener.start()
            self._listeners.append(listener)
            while not self._stopping.is_set():
                customer.say("你好" if len(customer.said) % 2 else "where is my order 20260001")
                time.sleep(self._pause_s)
        except BaseException as error:
            self._errors.append(error)
