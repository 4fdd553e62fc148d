"""Simulated customers who send messages to the gateways while parts of the system are killed.

In: the gateways' addresses. Out: `Talk`s: the accepted messages in their order, and the replies from streams.
"""

import asyncio
import itertools
import json
import random
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple

import httpx
import jwt

CHATTER = ("hello", "你好", "thanks", "谢谢", "are you a bot?", "再见", "bye")
ASKS = ("where is my order {}?", "我的订单{}到哪了")
PATIENCE_S = 240.0  # longest time that a customer repeats a message until a gateway accepts it
TWICE = 0.15  # share of messages sent a second time with another text, which the gateway must ignore
LISTENS = 0.2  # share of customers who hold a stream open
WAITS = 0.3  # share of messages sent with `Prefer: wait`


@dataclass
class Sent:
    """A message. `number` is the order that it asks for, None for small talk; `accepted_ms` is since the epoch."""

    message_id: str
    text: str
    number: Optional[str] = None
    accepted_ms: int = 0


@dataclass
class Talk:
    """One customer's conversation.

    Attributes:
        sent: accepted messages, in the order of sending.
        streamed: sequence numbers from the stream, in the order of arrival; None without a stream.
        replies: replies from the stream, by sequence number.
        complaints: answers that a gateway must not give, such as an unexpected status.
        over: whether the customer has sent all messages.
        last_streamed: id of the message that the last event of the stream is about.
    """

    user: str
    token: str
    sent: List[Sent] = field(default_factory=list)
    streamed: Optional[List[int]] = None
    complaints: List[str] = field(default_factory=list)
    over: bool = False
    last_streamed: str = ""
    replies: Dict[int, Dict[str, Any]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of the conversation, `tenant:user`."""
        return f"demo:{self.user}"

    @property
    def headers(self) -> Dict[str, str]:
        """The HTTP headers of the customer's requests."""
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def is_complete(self) -> bool:
        """Whether all messages are sent, and the stream has an event about the last one."""
        return self.over and (not self.sent or self.sent[-1].message_id == self.last_streamed)

    def read_line(self, line: str) -> None:
        """Read a line of the stream. Source: HTML standard, server-sent events."""
        if line.startswith("id: "):
            assert self.streamed is not None
            self.streamed.append(int(line[4:]))
        elif line.startswith("data: "):
            reply = json.loads(line[6:])
            self.last_streamed = reply["message_id"]
            self.replies.setdefault(reply.get("seq", 0), reply)  # 0: a failure has no sequence number


class Load:
    """Starts conversations at a steady rate in a thread of its own, until `finish`.

    Args:
        addresses: URLs of the gateways; each attempt goes to one at random.
        token_secret: secret that signs the customers' tokens.
        orders: customer and number of each order; a customer has one conversation.
        rate: new conversations per second, of six messages on average.
        seed: seed of all random choices.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        token_secret: str,
        orders: Sequence[Tuple[str, str]],
        rate: float,
        seed: str,
    ) -> None:
        self.talks: List[Talk] = []
        self.failure: Optional[BaseException] = None
        self._addresses = list(addresses)
        self._secret = token_secret
        self._own = {customer: number for customer, number in orders if customer not in ("alice", "bob")}
        self._rate = rate
        self._chance = random.Random(seed)  # noqa: S311 - it must be repeatable
        self._finishing = threading.Event()
        self._running: Set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Start the customers' thread."""
        self._thread.start()

    def finish(self, deadline_s: float) -> None:
        """Begin no more conversations, and wait until all have ended. Raises the error of a conversation."""
        self._finishing.set()
        self._thread.join(deadline_s)
        if self.failure:
            raise self.failure
        if self._thread.is_alive():
            raise RuntimeError(f"customers still talk after {deadline_s:.0f} s")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - `finish` raises it
            self.failure = error

    async def _serve(self) -> None:
        customers = iter(self._own.items())
        run = uuid.uuid4().hex[:6]
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(timeout=20, limits=limits, trust_env=False) as client:
            for number in itertools.count():
                if self._finishing.is_set():
                    break
                user, order = (next(customers, (None, None))) if number % 3 == 0 else (None, None)
                talk = Talk(user or f"c{run}-{number}", "")
                talk.token = self._token(talk.user)
                self.talks.append(talk)
                for part in [
                    self._talk(client, talk, order),
                    *([self._listen(client, talk)] if self._listens(talk) else []),
                ]:
                    task = asyncio.create_task(part)
                    self._running.add(task)
                await asyncio.sleep(self._chance.expovariate(self._rate))
                self._reap()
            await asyncio.gather(*self._running)

    def _reap(self) -> None:
        for task in [task for task in self._running if task.done()]:
            self._running.discard(task)
            task.result()

    def _listens(self, talk: Talk) -> bool:
        if self._chance.random() < LISTENS:
            talk.streamed = []
        return talk.streamed is not None

    async def _talk(self, client: httpx.AsyncClient, talk: Talk, order: Optional[str]) -> None:
        try:
            for _ in range(self._chance.randint(4, 8)):
                asks = order is not None and self._chance.random() < 0.5
                text = self._chance.choice(ASKS).format(order) if asks else self._chance.choice(CHATTER)
                sent = Sent(uuid.uuid4().hex, text, order if asks else None)
                wait = "wait=5" if self._chance.random() < WAITS else ""
                await self._send(client, talk, sent, text, wait)
                sent.accepted_ms = time.time_ns() // 1_000_000
                talk.sent.append(sent)
                if self._chance.random() < TWICE:
                    await self._send(client, talk, sent, "hello again", "")
                await asyncio.sleep(self._chance.uniform(0, 1.0))
        finally:
            talk.over = True

    async def _send(self, client: httpx.AsyncClient, talk: Talk, sent: Sent, text: str, wait: str) -> None:
        """Send a message under the same id until a gateway accepts it, as a real client does."""
        deadline = time.monotonic() + PATIENCE_S
        body = {"text": text, "message_id": sent.message_id}
        headers = {**talk.headers, **({"Prefer": wait} if wait else {})}
        while time.monotonic() < deadline:
            try:
                answer = await client.post(f"{self._gateway()}/v1/messages", json=body, headers=headers)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code in (200, 202):
                return
            if answer is not None and answer.status_code not in (429, 502, 503):
                talk.complaints.append(f"{sent.message_id}: status {answer.status_code} {answer.text[:200]}")
            await asyncio.sleep(self._chance.uniform(0.1, 0.4))
        raise RuntimeError(f"message {sent.message_id} of {talk.key} was not accepted within {PATIENCE_S:.0f} s")

    async def _listen(self, client: httpx.AsyncClient, talk: Talk) -> None:
        """Hold a stream open until all replies have come. A broken stream is opened again after its last reply."""
        deadline = time.monotonic() + PATIENCE_S
        while not talk.is_complete and time.monotonic() < deadline:
            last = {"Last-Event-ID": str(talk.streamed[-1])} if talk.streamed else {}
            try:
                async with client.stream(
                    "GET", f"{self._gateway()}/v1/stream", headers={**talk.headers, **last}, timeout=30
                ) as answer:
                    async for line in answer.aiter_lines():
                        talk.read_line(line)
                        if talk.is_complete:
                            break
            except (httpx.TransportError, httpx.StreamError):
                pass  # the gateway was killed: the next attempt may go to another one
            await asyncio.sleep(0.1)
            deadline = deadline if talk.over else time.monotonic() + PATIENCE_S

    def _gateway(self) -> str:
        return self._chance.choice(self._addresses)

    def _token(self, user: str) -> str:
        now = int(time.time())
        claims: Dict[str, Any] = {"sub": user, "tenant": "demo", "iat": now, "exp": now + 7200}
        return jwt.encode(claims, self._secret, algorithm="HS256")
