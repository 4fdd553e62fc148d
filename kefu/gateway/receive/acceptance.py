"""QUEUE: accepts the messages of all channels. A message is accepted when Kafka has acknowledged it in time."""

import asyncio
import time
from collections import deque
from typing import Deque, Optional, Protocol, Tuple

from kefu import metrics
from kefu.codec import encode
from kefu.errors import KefuError, QueueUnavailable
from kefu.events import AUDIT, USER_QUERY, AuditEntry, DeskEvent, UserSaid, conversation_key
from kefu.gateway.receive.backlog import Backlog


class Sender(Protocol):
    """The part of `kefu.kafka.EventProducer` that the gateway uses.

    Attributes:
        failure: the fatal error after which nothing can be sent; None before.
    """

    failure: Optional[str]

    async def connect(self) -> None:
        """Connect to Kafka, or give up after a short time. Never raises."""
        ...

    def send(self, topic: str, key: str, value: bytes) -> "asyncio.Future[None]":
        """Queue a record; the future ends when Kafka has acknowledged the record."""
        ...

    def close(self, timeout_s: float = 10.0) -> int:
        """Send the queued records, then close. Blocks. Returns how many records Kafka did not acknowledge in time."""
        ...


class Acceptance:
    """Accepts messages into `user.query`. Belongs to the event loop's thread."""

    def __init__(self, sender: Sender, timeout_s: float, backlog: Backlog) -> None:
        self._sender = sender
        self._deadlines = Deadlines(timeout_s)
        self._backlog = backlog

    async def accept(self, said: UserSaid) -> None:
        """Send a customer's message to Kafka; return once all in-sync replicas have it.

        Raises:
            Problem: 429, too many messages of this conversation wait for their answers.
            QueueUnavailable: Kafka did not acknowledge in time; the message may still arrive.
        """
        await self._backlog.admit(said.conversation, said.message_id)
        started = time.monotonic()
        try:
            await self._send(USER_QUERY, said.conversation, encode(said))
        except KefuError:
            self._backlog.answered(said.conversation, said.message_id)
            raise
        metrics.ACCEPT_SECONDS.observe(time.monotonic() - started)
        metrics.ACCEPTED.labels(said.channel).inc()

    async def put(self, event: DeskEvent) -> None:
        """Send an event of the desk to Kafka; return once Kafka has it. Raises QueueUnavailable as `accept` does."""
        await self._send(USER_QUERY, event.conversation, encode(event))

    async def audit(self, entry: AuditEntry) -> None:
        """Send an audit entry to Kafka; return once Kafka has it. Raises QueueUnavailable as `accept` does."""
        await self._send(AUDIT, conversation_key(entry.tenant, entry.user), encode(entry))

    async def _send(self, topic: str, key: str, value: bytes) -> None:
        done = self._sender.send(topic, key, value)
        self._deadlines.watch(done)
        await done


class Deadlines:
    """Ends futures that take longer than `timeout_s`.

    One timer serves all futures: they have the same time limit, so the future that was added first is due first.
    `asyncio.wait_for` makes a timer and a scope for each future, which costs ten times as much.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._due: Deque[Tuple[float, asyncio.Future[None]]] = deque()
        self._timer: Optional[asyncio.TimerHandle] = None

    def watch(self, future: "asyncio.Future[None]") -> None:
        """End `future` with QueueUnavailable unless it is done in time."""
        loop = future.get_loop()
        self._drop_done()
        self._due.append((loop.time() + self._timeout_s, future))
        if self._timer is None:
            self._timer = loop.call_at(self._due[0][0], self._expire, loop)

    def _drop_done(self) -> None:
        while self._due and self._due[0][1].done():
            self._due.popleft()

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._due and self._due[0][0] <= loop.time():
            future = self._due.popleft()[1]
            if not future.done():
                future.set_exception(QueueUnavailable("not acknowledged in time"))
        self._drop_done()
        self._timer = loop.call_at(self._due[0][0], self._expire, loop) if self._due else None
