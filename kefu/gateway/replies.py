"""ANSWER: reads what the worker stored of a conversation, and waits for it.

The stored state is the truth; hints only say when to look (see `hub`).
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Awaitable, Dict, List, Optional, Tuple, TypeVar

import orjson
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from kefu.errors import StoreUnavailable
from kefu.gateway.hub import POLL_S, Hub
from kefu.keys import ConversationKeys
from kefu.settings import RedisSettings

PAGE = 100
MAX_CONNECTIONS = 64
Result = TypeVar("Result")


def connect(settings: RedisSettings, retries: int = 1, connections: int = MAX_CONNECTIONS) -> Redis:
    """Return a client that connects at first use. One retry: after a restart of Redis pooled connections are dead."""
    pool = BlockingConnectionPool.from_url(
        settings.url,
        max_connections=connections,
        timeout=settings.timeout_s,
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        retry=Retry(NoBackoff(), retries),
    )
    return Redis.from_pool(pool)


@dataclass(frozen=True)
class Outcome:
    """What became of a message: `answered` with its replies, or `failed` with the class of the reason."""

    message_id: str
    status: str
    reason: Optional[str]
    replies: List[Dict[str, Any]]

    def body(self) -> Dict[str, Any]:
        """Return it as the API shows it."""
        if self.status == "failed":
            return {"message_id": self.message_id, "status": "failed", "reason": self.reason or "unknown"}
        return {"message_id": self.message_id, "status": "answered", "replies": self.replies}


class ReplyStore:
    """Outcomes and replies of conversations; every call raises StoreUnavailable when Redis is away."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix

    async def outcome(self, conversation: str, message_id: str) -> Optional[Outcome]:
        """Return what became of a message, None while it has not been processed."""
        key = ConversationKeys(self._prefix, conversation).marker(message_id)
        raw = await _answered(self._redis.get(key))
        if raw is None:
            return None
        marker = orjson.loads(raw)
        return Outcome(message_id, marker["status"], marker.get("reason"), marker.get("replies") or [])

    async def after(self, conversation: str, seq: int) -> List[Tuple[int, bytes]]:
        """Return up to PAGE replies after `seq`, in order: sequence number and JSON."""
        key = ConversationKeys(self._prefix, conversation).replies
        entries = await _answered(self._redis.xrange(key, min=f"{seq + 1}-0", count=PAGE))
        return [(int(entry.partition(b"-")[0]), fields[b"r"]) for entry, fields in entries]


async def _answered(call: "Awaitable[Result]") -> Result:
    try:
        return await call
    except (TimeoutError, RedisError, OSError) as error:
        raise StoreUnavailable(error.__class__.__name__) from error


async def wait_for_outcome(
    store: ReplyStore, hub: Hub, conversation: str, message_id: str, wait_s: float
) -> Optional[Outcome]:
    """Return the outcome as soon as it is stored, None when `wait_s` are over or the hub closes first.

    Redis being away only means that nothing can be told yet: the message is accepted all the same.
    """
    try:
        async with asyncio.timeout(wait_s), hub.watch(conversation) as watch:
            while not hub.closed:
                try:
                    outcome = await store.outcome(conversation, message_id)
                except StoreUnavailable:
                    outcome = None
                if outcome:
                    return outcome
                await watch.wait(POLL_S)
    except TimeoutError:
        pass
    return None
