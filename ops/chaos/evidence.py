"""What the system holds after the torment: in Kafka, in Redis, in the shop, and as its API tells it.

In: a calm `System` and the talks of its customers. Out: `Evidence`, which `verdict` judges.
"""

import asyncio
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

import httpx
import orjson
from redis.exceptions import RedisError

from kefu.errors import QueueUnavailable, StoreUnavailable
from kefu.events import ANSWERS, DEAD_LETTERS, DIALOGUE_EVENTS, USER_QUERY
from kefu.gateway.answer.redis_client import Servers, connect
from kefu.keys import ConversationKeys
from kefu.settings import KafkaSettings, RedisSettings
from kefu.tools.groups import lag
from kefu.tools.topic_reader import TopicReader
from ops.chaos.faults import Trouble
from ops.chaos.load import Talk
from ops.chaos.system import System

GROUP = "kefu-worker"
SETTLED_S = 240.0
READ_S = 120.0
BEHIND_S = 15.0  # longer than the action server's pause and its next try at the shop. Source: actions/shop/background.py


@dataclass
class Kept:
    """What Redis holds of a conversation: its last turns only, if it was trimmed."""

    version: int
    seq: int
    turns: List[Dict[str, Any]]
    replies: List[Tuple[int, Dict[str, Any]]]
    markers: Dict[str, bytes]


@dataclass
class Evidence:
    """All that was found. Conversations are named `tenant:user`.

    Attributes:
        answers: id and value of each record of answer.generated, as often as it is there.
        events: id and value of each record of dialogue.events, likewise.
        letters: message ids among the dead letters.
        told: status by message id, as the API tells it; replies by conversation, likewise.
        inquiries: key of each side effect in the shop.
        lag: how many records of the inbox were not committed in the end, None when Kafka did not say.
    """

    talks: Sequence[Talk]
    troubles: Sequence[Trouble]
    kept: Dict[str, Kept] = field(default_factory=dict)
    answers: Dict[str, List[Tuple[str, bytes]]] = field(default_factory=dict)
    events: Dict[str, List[Tuple[str, bytes]]] = field(default_factory=dict)
    letters: Dict[str, List[str]] = field(default_factory=dict)
    told: Dict[str, str] = field(default_factory=dict)
    replies: Dict[str, List[Dict[str, Any]]] = field(default_factory=dict)
    inquiries: List[str] = field(default_factory=list)
    lag: Optional[int] = 0


async def settle(system: System, talks: Sequence[Talk]) -> float:
    """Wait until every message has its outcome and every offset is committed; returns how long, in s.

    After SETTLED_S it returns all the same: what is missing then is lost, and the verdict names it.
    """
    began = time.monotonic()
    redis = connect(RedisSettings(system.stack.redis.url))
    open_talks = list(talks)
    try:
        while time.monotonic() - began < SETTLED_S:
            open_talks = [talk for talk in open_talks if not await _answered(redis, talk)]
            if not open_talks and await asyncio.to_thread(_lag, system) == 0:
                break
            await asyncio.sleep(0.5)
    finally:
        await redis.close()
    return time.monotonic() - began


async def gather(system: System, talks: Sequence[Talk], troubles: Sequence[Trouble]) -> Evidence:
    """Read all. Raises StoreUnavailable, QueueUnavailable, RedisError or HTTPError when it can't be read in time."""
    found = Evidence(talks, troubles)
    redis = connect(RedisSettings(system.stack.redis.url))
    try:
        for talk in talks:
            found.kept[talk.key] = await _kept(redis, talk)
    finally:
        await redis.close()
    kafka = _kafka(system)
    found.answers = await asyncio.to_thread(_by_conversation, kafka, ANSWERS)
    found.events = await asyncio.to_thread(_by_conversation, kafka, DIALOGUE_EVENTS)
    letters = await asyncio.to_thread(_by_conversation, kafka, DEAD_LETTERS)
    found.letters = {key: [orjson.loads(value)["message_id"] for _, value in each] for key, each in letters.items()}
    await _ask_api(system, found)
    found.lag = await _lag_told(system)
    found.inquiries = await _inquiries(system)
    return found


async def _inquiries(system: System) -> List[str]:
    """Return the keys of all side effects, once no more come."""
    found: List[Any] = []
    deadline, since = time.monotonic() + READ_S, time.monotonic()
    while time.monotonic() < min(deadline, since + BEHIND_S):
        rows = system.shop_rows("SELECT key FROM inquiries")
        if rows != found:
            found, since = rows, time.monotonic()
        await asyncio.sleep(0.5)
    return [key for (key,) in found]


async def _lag_told(system: System) -> Optional[int]:
    """Return the lag, None only when Kafka did not say for READ_S."""
    deadline = time.monotonic() + READ_S
    while True:
        lag = await asyncio.to_thread(_lag, system)
        if lag is not None or time.monotonic() > deadline:
            return lag
        await asyncio.sleep(0.5)


async def _answered(redis: Servers, talk: Talk) -> bool:
    keys = ConversationKeys("kefu", talk.key)
    try:
        client = await redis.holding(keys.state)
        return all([await client.exists(keys.marker(sent.message_id)) for sent in reversed(talk.sent)])
    except (RedisError, OSError, StoreUnavailable):
        redis.doubt()
        return False


async def _kept(redis: Servers, talk: Talk) -> Kept:
    """Read it, for READ_S at most: Redis may still be slow after what was done to it."""
    deadline = time.monotonic() + READ_S
    while True:
        try:
            return await _read(redis, talk)
        except (RedisError, OSError, StoreUnavailable):
            if time.monotonic() > deadline:
                raise
            redis.doubt()
            await asyncio.sleep(0.5)


async def _read(redis: Servers, talk: Talk) -> Kept:
    keys = ConversationKeys("kefu", talk.key)
    client = await redis.holding(keys.state)
    version, seq = await client.hmget(keys.state, "version", "seq")
    turns = [orjson.loads(turn) for turn in await client.lrange(keys.turns, 0, -1)]
    entries = await client.xrange(keys.replies)
    replies = [(int(entry.partition(b"-")[0]), orjson.loads(fields[b"r"])) for entry, fields in entries]
    markers = {sent.message_id: await client.get(keys.marker(sent.message_id)) for sent in talk.sent}
    found = {message_id: marker for message_id, marker in markers.items() if marker is not None}
    return Kept(int(version or 0), int(seq or 0), turns, replies, found)


async def _ask_api(system: System, found: Evidence) -> None:
    async with httpx.AsyncClient(base_url=system.addresses[0], timeout=20, trust_env=False) as client:
        for talk in found.talks:
            found.replies[talk.key] = [reply async for reply in _pages(client, talk)]
            for sent in talk.sent:
                answer = await _get(client, talk, f"/v1/messages/{sent.message_id}")
                found.told[sent.message_id] = answer.json().get("status", f"HTTP {answer.status_code}")


async def _get(client: httpx.AsyncClient, talk: Talk, path: str) -> httpx.Response:
    """Ask until it is neither put off nor unanswered, for READ_S at most."""
    deadline = time.monotonic() + READ_S
    while True:
        try:
            answer = await client.get(path, headers=talk.headers)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                return answer
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.5)


async def _pages(client: httpx.AsyncClient, talk: Talk) -> Any:
    after = 0
    while True:
        answer = await _get(client, talk, f"/v1/replies?after={after}")
        answer.raise_for_status()
        page = answer.json()["replies"]
        if not page:
            return
        for reply in page:
            yield reply
        after = page[-1]["seq"]


def _lag(system: System) -> Optional[int]:
    """Return how many records of the inbox are not committed, None when Kafka doesn't say."""
    try:
        return lag(_kafka(system), USER_QUERY, GROUP)
    except QueueUnavailable:
        return None


def _kafka(system: System) -> KafkaSettings:
    return KafkaSettings(system.stack.kafka.brokers)


def _by_conversation(kafka: KafkaSettings, topic: str) -> Dict[str, List[Tuple[str, bytes]]]:
    """Return id and value of every record, as often as it is there. Raises QueueUnavailable."""
    found: Dict[str, List[Tuple[str, bytes]]] = defaultdict(list)
    with closing(TopicReader(kafka, READ_S, READ_S)) as reader:
        for number in range(reader.partitions(topic)):
            for record in reader.records(topic, number):
                found[record.key.decode()].append((orjson.loads(record.value)["id"], record.value))
    return dict(found)
