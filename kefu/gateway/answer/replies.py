"""ANSWER: reads the outcomes and replies that the worker stored in Redis, and waits for them.

The stored state decides; hints only say when to read it (see `kefu.gateway.answer.hints`).
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

import orjson

from kefu.errors import StoreUnavailable
from kefu.events import InboxEvent
from kefu.gateway.answer.batched_reads import Reads
from kefu.gateway.answer.hints import Hub, Watch, until_poll
from kefu.gateway.answer.redis_client import Servers
from kefu.keys import ConversationKeys

PAGE = 100  # limits the replies of one read; the next read gets the rest
FIRST_LOOK_S = 0.1  # wait for a hint before the first read, see `wait_for_outcome`
Page = List[Tuple[int, bytes]]  # replies: sequence number and JSON


@dataclass(frozen=True)
class Outcome:
    """The outcome of a message: `answered` with its replies, or `failed` with the class of the reason."""

    message_id: str
    status: str
    reason: Optional[str]
    replies: List[Dict[str, Any]]

    def body(self) -> Dict[str, Any]:
        """Return the outcome as the API shows it."""
        if self.status == "failed":
            return {"message_id": self.message_id, "status": "failed", "reason": self.reason or "unknown"}
        return {"message_id": self.message_id, "status": "answered", "replies": self.replies}


class ReplyStore:
    """Reads outcomes and replies of conversations. Every call raises StoreUnavailable when Redis is unavailable."""

    def __init__(self, servers: Servers, prefix: str, timeout_s: float) -> None:
        self._reads = Reads(servers, timeout_s)
        self._prefix = prefix

    async def outcome(self, conversation: str, message_id: str) -> Optional[Outcome]:
        """Return the outcome of a message, None while the worker has not processed it."""
        return _outcome(message_id, await self._marker(conversation, message_id))

    async def answered(self, conversation: str, message_ids: List[str]) -> List[bool]:
        """Return for each message whether its outcome is stored, in one round trip."""
        markers = await asyncio.gather(*(self._marker(conversation, message_id) for message_id in message_ids))
        return [marker is not None for marker in markers]

    async def after(self, conversation: str, seq: int) -> Page:
        """Return up to PAGE replies after `seq`, in order."""
        return _page(await self._entries(conversation, seq))

    async def news(self, conversation: str, seq: int, message_ids: List[str]) -> Tuple[Page, List[Outcome]]:
        """Return the page that `after` returns, and the outcomes of the given messages, as far as they are stored.

        Takes one round trip to Redis.
        """
        reads = [self._marker(conversation, message_id) for message_id in message_ids]
        entries, *markers = await asyncio.gather(self._entries(conversation, seq), *reads)
        outcomes = map(_outcome, message_ids, markers)
        return _page(entries), [outcome for outcome in outcomes if outcome]

    def _marker(self, conversation: str, message_id: str) -> "asyncio.Future[Any]":
        return self._reads.get(ConversationKeys(self._prefix, conversation).marker(message_id))

    def _entries(self, conversation: str, seq: int) -> "asyncio.Future[Any]":
        key = ConversationKeys(self._prefix, conversation).replies
        return self._reads.range(key, f"{seq + 1}-0", PAGE)


def _outcome(message_id: str, marker: Optional[bytes]) -> Optional[Outcome]:
    if marker is None:
        return None
    stored = orjson.loads(marker)
    return Outcome(message_id, stored["status"], stored.get("reason"), stored.get("replies") or [])


def _page(entries: List[Tuple[bytes, List[bytes]]]) -> Page:
    """Return the replies in stream entries; an entry's only field is the reply."""
    return [(int(entry.partition(b"-")[0]), fields[1]) for entry, fields in entries]


async def wait_for_outcome(
    store: ReplyStore, hub: Hub, watch: Watch, said: InboxEvent, wait_s: float
) -> Optional[Outcome]:
    """Return the outcome of `said` as soon as it is stored, None when `wait_s` are over or the hub closes first.

    While Redis is unavailable the wait goes on, because the message is accepted already.

    Args:
        store: the store of outcomes.
        hub: the hub of `watch`.
        watch: a watch of the message's conversation, opened before the message was sent. The first read waits for a
            hint, because a read at once would usually find nothing. It waits no longer than FIRST_LOOK_S: a message
            that is sent twice may have its outcome already, and then no hint comes.
        said: the message.
        wait_s: the longest wait, from now.
    """
    now = asyncio.get_running_loop().time
    try:
        async with asyncio.timeout(wait_s):
            await watch.wait(FIRST_LOOK_S)
            while not hub.closed:
                outcome = await _read_outcome(store, said)
                if outcome:
                    return outcome
                await watch.wait(until_poll(now()))
    except TimeoutError:
        pass
    return None


async def _read_outcome(store: ReplyStore, said: InboxEvent) -> Optional[Outcome]:
    try:
        return await store.outcome(said.conversation, said.message_id)
    except StoreUnavailable:
        return None
