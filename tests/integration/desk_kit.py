"""Helpers of the desk's tests: tokens, hand-overs as the worker stores them, and a stand-in that gives outcomes."""

import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, AsyncIterator, Dict, List, Optional

import httpx
import jwt
import redis

from kefu.events import conversation_key, derived_id
from kefu.gateway.receive.desk_auth import AUDIENCE
from kefu.keys import ConversationKeys, desk_index
from tests.integration.gateway_kit import TENANTS, Served, bearer, serve, settings

SUMMARY = {
    "identified": True,
    "language": "zh",
    "channel": "rest",
    "asked": "我的订单到哪了",
    "intent": "track_order",
    "task": None,
    "slots": {},
    "turns": [{"from": "customer", "text": "转人工", "ts": 1}],
}


def desk_token(agent: str = "li.wei", tenant: str = "demo", secret: Optional[str] = None, **claims: Any) -> str:
    """Return a token like the shop's backend mints it; claims that are None are left out."""
    now = int(time.time())
    made = {"sub": agent, "tenant": tenant, "role": "agent", "aud": AUDIENCE, "iat": now, "exp": now + 600, **claims}
    kept = {name: value for name, value in made.items() if value is not None}
    return jwt.encode(kept, secret or TENANTS[tenant].desk_secret, algorithm="HS256")


@dataclass
class Desk:
    """The desk's API, and the worker's writes to Redis."""

    served: Served
    token: str

    @property
    def _redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.served.worker.redis_settings.url)

    def hand_over(self, user: str, tenant: str = "demo", since: int = 1000, **state: Any) -> str:
        """Store a hand-over; return its id."""
        prefix = self.served.worker.redis_settings.key_prefix
        handoff = derived_id("HandoffStarted", user, since)
        keys = ConversationKeys(prefix, conversation_key(tenant, user))
        stored = {"id": handoff, "since": since, "by": "action_hand_over", "summary": SUMMARY, "status": "waiting"}
        stored.update(agent=None, taken_at=None)
        self._redis.hset(keys.state, "handoff", json.dumps({**stored, **state}))
        self._redis.zadd(desk_index(prefix, tenant), {user: since})
        return handoff

    def end(self, user: str) -> None:
        """End a hand-over, but leave it in the index."""
        keys = self._keys(user)
        self._redis.hdel(keys.state, "handoff")

    def turn(self, user: str, version: int, *events: Dict[str, Any]) -> None:
        """Store a turn and publish its hint."""
        keys = self._keys(user)
        self._redis.rpush(keys.turns, json.dumps({"v": version, "events": [{"timestamp": 5.0, **e} for e in events]}))
        self._redis.execute_command("SPUBLISH", keys.hint, f"m{version}")

    def _keys(self, user: str) -> ConversationKeys:
        return ConversationKeys(self.served.worker.redis_settings.key_prefix, conversation_key("demo", user))

    async def get(self, path: str, token: Optional[str] = None, **headers: str) -> httpx.Response:
        """GET below `/v1/desk/`."""
        return await self.served.client.get(f"/v1/desk/{path}", headers=self._headers(token, headers))

    async def post(self, path: str, body: Any, token: Optional[str] = None, **headers: str) -> httpx.Response:
        """POST below `/v1/desk/`."""
        return await self.served.client.post(f"/v1/desk/{path}", json=body, headers=self._headers(token, headers))

    def _headers(self, token: Optional[str], headers: Dict[str, str]) -> Dict[str, str]:
        return {**bearer(token or self.token), **{name.replace("_", "-"): value for name, value in headers.items()}}

    def judged(self, status: str = "answered", reason: Optional[str] = None, *texts: str) -> List[Any]:
        """Give every desk event this outcome; return the list that the events are added to."""
        got: List[Any] = []

        def judge(event: Any) -> None:
            got.append(event)
            self.served.worker.answer(event.user, event.message_id, *texts, status=status, reason=reason)

        self.served.inbox.on_desk = judge
        return got


@asynccontextmanager
async def desk(redis_settings: Any, **changes: Any) -> AsyncIterator[Desk]:
    """Run a gateway with a desk."""
    async with serve(redis_settings, settings(**changes)) as running:
        yield Desk(running, desk_token())
