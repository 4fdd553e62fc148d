"""Sends messages over HTTP, to stock Rasa's REST channel or to Kefu's gateway, with one connection a customer.

It is a minimal HTTP/1.1 client, because common clients use more CPU a request than the measured systems. It knows only
`Content-Length` and keep-alive, which both servers use.
"""

import asyncio
import time
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import urlsplit

import jwt
import orjson
import uvloop

from ops.bench.customers import TENANT, Customer, Job, Load, count_replies

WAIT_S = 25  # how long the gateway is asked to wait for an answer
TICK_S = 0.001  # between two checks for messages that are due by the clock
IDLE_TICK_S = 0.05  # between two checks whether the job is done, if no messages come by the clock
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Connection(asyncio.Protocol):
    """A kept-alive connection with one request under way at a time."""

    def __init__(self, on_answer: Callable[[int, bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """Keep the transport."""
        self._transport = transport

    def connection_lost(self, error: Optional[Exception]) -> None:
        """Call `on_lost`: a request under way gets no answer."""
        self._on_lost()

    def request(self, data: bytes) -> None:
        """Send a whole request."""
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Collect data, and hand on each complete answer."""
        self._buffer += data
        while self._buffer and self._take_answer():
            pass

    def _take_answer(self) -> bool:
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return False
        head = self._buffer[:end].lower()
        at = head.index(_LENGTH) + len(_LENGTH)
        stop = head.find(b"\r\n", at)
        whole = end + len(_HEAD_END) + int(head[at : stop if stop > 0 else None])
        if len(self._buffer) < whole:
            return False
        body, self._buffer = self._buffer[end + len(_HEAD_END) : whole], self._buffer[whole:]
        self._on_answer(int(head[9:12]), body)
        return True


class Stock:
    """The requests to Rasa's REST channel. They have the metadata that Kefu's worker adds, which the actions need."""

    path = "/webhooks/rest/webhook"

    def request(self, customer: Customer) -> Tuple[Dict[str, Any], str]:
        """Return the body and further header lines."""
        who = {"tenant": TENANT, "user": customer.user, "identified": True, "message_id": customer.message_id}
        return {"sender": f"{TENANT}:{customer.user}", "message": customer.text, "metadata": who}, ""

    def check(self, load: Load, customer: Customer, status: int, body: bytes) -> int:
        """Count an answer's errors; return its number of replies."""
        if status != 200:
            load.counts.failed += 1
            return 0
        replies = orjson.loads(body)
        strangers = [reply for reply in replies if reply["recipient_id"] != f"{TENANT}:{customer.user}"]
        load.counts.unexpected += len(strangers)
        return len(replies)


class Gateway:
    """The requests to Kefu's gateway. With `wait` they wait for the answer, otherwise only for the 202."""

    path = "/v1/messages"

    def __init__(self, token_secret: str, wait: bool) -> None:
        self._secret = token_secret
        self._prefer = f"Prefer: wait={WAIT_S}\r\n" if wait else ""
        self._wait = wait
        self._tokens: Dict[int, Tuple[str, str]] = {}

    def request(self, customer: Customer) -> Tuple[Dict[str, Any], str]:
        """Return the body and further header lines."""
        user, token = self._tokens.get(customer.place, ("", ""))
        if user != customer.user:
            claims = {"sub": customer.user, "tenant": TENANT, "exp": int(time.time()) + 3600}
            token = jwt.encode(claims, self._secret, algorithm="HS256")
            self._tokens[customer.place] = customer.user, token
        return (
            {"text": customer.text, "message_id": customer.message_id},
            f"Authorization: Bearer {token}\r\n{self._prefer}",
        )

    def check(self, load: Load, customer: Customer, status: int, body: bytes) -> int:
        """Count an answer's errors; return its number of replies, 1 for an expected 202."""
        if status != (200 if self._wait else 202):
            load.counts.failed += 1
            return 0
        answer = orjson.loads(body)
        load.counts.unexpected += answer["message_id"] != customer.message_id
        return count_replies(load, customer, answer["replies"]) if self._wait else 1


class HttpTransport:
    """One connection for each customer, on one event loop."""

    def __init__(self, job: Job) -> None:
        address = urlsplit(job.url)
        assert address.hostname is not None and address.port is not None
        self._host, self._port = address.hostname, address.port
        self._users = min(job.users, job.conversations)
        self._dialect = Stock() if job.driver == "stock" else Gateway(job.token_secret, job.driver == "gateway")
        self._loop = uvloop.new_event_loop()
        self._connections: List[Connection] = []
        self._under_way: List[Optional[Customer]] = [None] * self._users

    def connect(self, load: Load) -> None:
        """Open all connections."""
        self._loop.run_until_complete(self._connect(load))

    def send(self, customer: Customer) -> None:
        """Send a customer's message on the customer's connection."""
        document, headers = self._dialect.request(customer)
        body = orjson.dumps(document)
        head = (
            f"POST {self._dialect.path} HTTP/1.1\r\nHost: {self._host}\r\n{headers}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._under_way[customer.place] = customer
        self._connections[customer.place].request(head.encode() + body)

    def run(self, load: Load) -> None:
        """Run the load until it is done."""
        load.begin()
        self._loop.call_soon(self._tick, load)
        self._loop.run_forever()

    def _tick(self, load: Load) -> None:
        if load.tick():
            self._loop.call_later(TICK_S if load.job.rate else IDLE_TICK_S, self._tick, load)
        else:
            self._loop.stop()

    async def _connect(self, load: Load) -> None:
        for place in range(self._users):

            def answered(status: int, body: bytes, place: int = place) -> None:
                customer, self._under_way[place] = self._under_way[place], None
                if customer is None:
                    load.counts.unexpected += 1
                    return
                load.answered(customer, self._dialect.check(load, customer, status, body))

            def lost(place: int = place) -> None:
                load.counts.failed += self._under_way[place] is not None

            _, connection = await self._loop.create_connection(
                partial(Connection, answered, lost), self._host, self._port
            )
            self._connections.append(connection)
