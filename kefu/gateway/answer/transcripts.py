"""Reads for the desk the hand-overs of a tenant, and the messages of a conversation that is handed over.

In: the state that the worker stored in Redis. Out: dicts for JSON, masked once more. The desk can't see a conversation
without a hand-over.
"""

import asyncio
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import orjson

from kefu.events import conversation_key
from kefu.gateway.answer.batched_reads import Reads
from kefu.gateway.answer.redis_client import Servers
from kefu.keys import ConversationKeys, desk_index
from kefu.privacy import mask, mask_all

MAX_LISTED = 500  # limits the index entries that one list reads; later hand-overs are not shown
TURNS_SHOWN = 50  # limits the turns of one transcript; the desk can't read earlier ones
_SPEAKERS = {"user": "customer", "bot": "assistant", "agent": "agent"}


class Transcript(NamedTuple):
    """The messages of a conversation after some version, oldest first, and the version of the last message."""

    messages: List[Dict[str, Any]]
    version: int


class DeskStore:
    """Hand-overs as the worker stored them. Every call raises StoreUnavailable when Redis is unavailable."""

    def __init__(self, servers: Servers, prefix: str, timeout_s: float) -> None:
        self._reads = Reads(servers, timeout_s)
        self._prefix = prefix

    async def listed(self, tenant: str) -> List[Dict[str, Any]]:
        """Return the hand-overs of a tenant, the oldest first; at most MAX_LISTED."""
        key = desk_index(self._prefix, tenant)
        users = [raw.decode() for raw in await self._reads.ask(key, "ZRANGE", key, 0, MAX_LISTED - 1)]
        handoffs = await asyncio.gather(*(self.handoff(tenant, user) for user in users))
        # The index is only a hint: it may still name a hand-over that has ended, whose state is gone.
        standing = [{"user": user, **each} for user, each in zip(users, handoffs, strict=True) if each]
        return sorted(standing, key=lambda each: (each["since"], each["user"]))

    async def handoff(self, tenant: str, user: str) -> Optional[Dict[str, Any]]:
        """Return the hand-over of a conversation, None while the assistant answers it."""
        key = self._keys(tenant, user).state
        stored = await self._reads.ask(key, "HGET", key, "handoff")
        return shown(orjson.loads(stored)) if stored else None

    async def transcript(self, tenant: str, user: str, after: int) -> Transcript:
        """Return the messages of the last TURNS_SHOWN turns whose version is above `after`."""
        key = self._keys(tenant, user).turns
        turns = [orjson.loads(raw) for raw in await self._reads.ask(key, "LRANGE", key, -TURNS_SHOWN, -1)]
        newer = [turn for turn in turns if turn["v"] > after]
        messages = [message for turn in newer for message in _messages(turn)]
        return Transcript(messages, max([after, *(turn["v"] for turn in newer)]))

    def _keys(self, tenant: str, user: str) -> ConversationKeys:
        return ConversationKeys(self._prefix, conversation_key(tenant, user))


def shown(stored: Dict[str, Any]) -> Dict[str, Any]:
    """Return a hand-over as the API shows it."""
    return {"handoff": stored["id"], **{name: value for name, value in mask_all(stored).items() if name != "id"}}


def brief(handoff: Dict[str, Any]) -> Dict[str, Any]:
    """Return a hand-over for a list, without the customer's messages: only the call that reads these is audited."""
    summary = {name: value for name, value in handoff["summary"].items() if name != "turns"}
    return {**handoff, "summary": summary}


def _messages(turn: Dict[str, Any]) -> Iterator[Dict[str, Any]]:
    """Yield the messages of customer, assistant and agent in a stored turn."""
    for event in turn["events"]:
        speaker = _SPEAKERS.get(event["event"])
        metadata = event.get("metadata") or {}
        if speaker is None or (speaker == "customer" and metadata.get("is_external")):
            continue
        message = {"from": speaker, "text": mask(event.get("text") or ""), "ts": round(event["timestamp"] * 1000)}
        buttons = [mask(str(each.get("title", ""))) for each in (event.get("data") or {}).get("buttons") or []]
        if buttons:
            message["buttons"] = buttons
        if speaker == "agent":
            message["agent"] = metadata.get("agent")
        yield {**message, "version": turn["v"]}
