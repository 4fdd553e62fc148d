"""ANSWER: reads what the worker stored of a conversation, and waits for it.

The stored state is the truth; hints only say when to look (see `hub`).
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Awaitable, Callable, Dict, List, Optional, Tuple, TypeVar

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from kefu.errors import StoreUnavailable
from kefu.gateway.hub import POLL_S, Hub
from kefu.gateway.redis_client import Servers
from kefu.keys import ConversationKeys

PAGE = 100
Result = TypeVar("Result")


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

    def __init__(self, servers: Servers, prefix: str) -> None:
        self._servers = servers
        self._prefix = prefix

    async def outcome(self, conversation: str, message_id: str) -> Optional[Outcome]:
        """Return what became of a message, None while it has not been processed."""
        key = ConversationKeys(self._prefix, conversation).marker(message_id)
        raw = await self._answered(key, lambda redis: redis.get(key))
        if raw is None:
            return None
        marker = orjson.loads(raw)
        return Outcome(message_id, marker["status"], marker.get("reason"), marker.get("replies") or [])

    async def after(self, conversation: str, seq: int) -> List[Tuple[int, bytes]]:
        """Return up to PAGE replies after `seq`, in order: sequence number and JSON."""
        key = ConversationKeys(self._prefix, conversation).replies
        entries = await self._answered(key, lambda redis: redis.xrange(key, min=f"{seq + 1}-0", count=PAGE))
        return [(int(entry.partition(b"-")[0]), fields[b"r"]) for entry, fields in entries]

    async def _answered(self, key: str, call: "Callable[[Redis], Awaitable[Result]]") -> Result:
        try:
            return await call(await self._servers.holding(key))
        except (TimeoutError, RedisError, OSError) as error:
            self._servers.doubt()
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
