"""Customers who talk while pods come and go, and count what became of every message."""

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
    """A guest, or a known customer of the demo shop; says each thing again, under its id, until there is an answer."""

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
        """Say something; returns the replies."""
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
        """Hold a stream of replies until told to stop, opened anew where it ends; collects the numbers that come."""
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
        found: list[dict[str, Any]] = []
        while page := self._page(found[-1]["seq"] if found else 0):
            found += page
        return found

    def _page(self, after: int) -> list[dict[str, Any]]:
        return insist(lambda: self._client.get("/v1/replies", params={"after": after})).json()["replies"]


def insist(call: Callable[[], httpx.Response], put_off: int = 0) -> httpx.Response:
    """Call until there is an answer, as a client does whose connection breaks or who is told to come again.

    Args:
        put_off: the status that tells so, besides those of a gateway that can't.
    """

    def answered() -> httpx.Response | None:
        answer = call()
        return answer if answer.status_code < 500 and answer.status_code != put_off else None

    return until(answered, "an answer of the gateway", PATIENCE_S, (httpx.TransportError,)).raise_for_status()


def _replies(customer: Customer) -> int:
    return sum(len(replies) for replies in customer.answered.values())


class Desk:
    """A person of tenant demo who takes conversations over. `secret` is the tenant's desk_secret."""

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
        """Take, say or give back; again under the same id, which is safe, until it is done."""
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
    """Customers at once, in threads, until told to stop; then what they were told is compared with what is stored."""

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
        """How many messages have been answered until now."""
        return sum(len(each.answered) for each in self._customers)

    def wait_for(self, more: int) -> None:
        """Wait until so many more messages are answered: that many go through what was just done."""
        wanted = self.answers + more

        def answered() -> bool:
            assert not self._errors, self._errors
            return self.answers >= wanted

        until(answered, f"{more} more answers")

    def check(self) -> int:
        """Assert that each message was answered, once, in order; returns how many there were."""
        assert not self._errors, self._errors
        for each in self._customers:
            assert not each.failed and set(each.said) == set(each.answered)
            stored = each.history()
            numbers = [reply["seq"] for reply in stored]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            told = [reply["seq"] for message in each.said for reply in each.answered[message]]
            assert told[-len(numbers) :] == numbers and told == list(range(1, len(told) + 1))
            assert each.heard == told  # by streams that pods handed over, too
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
