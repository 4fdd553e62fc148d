"""Reads the state of the system after the faults: from Kafka, from Redis, from the shop, and from the gateway's API.

In: a recovered `System` and the talks of its customers. Out: `Evidence`, which `verdict` judges.
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
SETTLED_S = 240.0  # longest wait for the outcome of every message; beyond it, missing ones count as lost
READ_S = 120.0  # longest time to retry one read
# The inquiries are complete once none has come for this long. It is longer than the action server's longest pause
# between attempts at the shop. Source: actions/shop/background.py
QUIET_S = 15.0


@dataclass
class Kept:
    """A conversation as Redis has it. If it was trimmed, it has only its last turns."""

    version: int
    seq: int
    turns: List[Dict[str, Any]]
    replies: List[Tuple[int, Dict[str, Any]]]
    markers: Dict[str, bytes]


@dataclass
class Evidence:
    """The state of the whole system. Conversations are named `tenant:user`.

    Attributes:
        answers: id and value of each record of answer.generated, repeated records included.
        events: id and value of each record of dialogue.events, repeated records included.
        letters: message ids of the dead letters.
        statuses: status by message id, from the API.
        replies: replies by conversation, from the API.
        inquiries: idempotency key of each side effect in the shop.
        lag: number of records of the inbox without a committed offset in the end; None if Kafka did not answer.
    """

    talks: Sequence[Talk]
    troubles: Sequence[Trouble]
    kept: Dict[str, Kept] = field(default_factory=dict)
    answers: Dict[str, List[Tuple[str, bytes]]] = field(default_factory=dict)
    events: Dict[str, List[Tuple[str, bytes]]] = field(default_factory=dict)
    letters: Dict[str, List[str]] = field(default_factory=dict)
    statuses: Dict[str, str] = field(default_factory=dict)
    replies: Dict[str, List[Dict[str, Any]]] = field(default_factory=dict)
    inquiries: List[str] = field(default_factory=list)
    lag: Optional[int] = 0


async def settle(system: System, talks: Sequence[Talk]) -> float:
    """Wait until every message has its outcome and every offset is committed; return the seconds it took.

    It returns after SETTLED_S in any case: messages without an outcome are lost then, and the verdict names them.
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
    """Read the evidence. Raises StoreUnavailable, QueueUnavailable, RedisError or HTTPError after READ_S of retries."""
    evidence = Evidence(talks, troubles)
    redis = connect(RedisSettings(system.stack.redis.url))
    try:
        for talk in talks:
            evidence.kept[talk.key] = await _kept(redis, talk)
    finally:
        await redis.close()
    kafka = _kafka(system)
    evidence.answers = await asyncio.to_thread(_by_conversation, kafka, ANSWERS)
    evidence.events = await asyncio.to_thread(_by_conversation, kafka, DIALOGUE_EVENTS)
    letters = await asyncio.to_thread(_by_conversation, kafka, DEAD_LETTERS)
    evidence.letters = {key: [orjson.loads(value)["message_id"] for _, value in each] for key, each in letters.items()}
    await _ask_api(system, evidence)
    evidence.lag = await _final_lag(system)
    evidence.inquiries = await _inquiries(system)
    return evidence


async def _inquiries(system: System) -> List[str]:
    """Return the keys of all side effects, once none has come for QUIET_S."""
    inquiries: List[Any] = []
    deadline, since = time.monotonic() + READ_S, time.monotonic()
    while time.monotonic() < min(deadline, since + QUIET_S):
        rows = system.shop_rows("SELECT key FROM inquiries")
        if rows != inquiries:
            inquiries, since = rows, time.monotonic()
        await asyncio.sleep(0.5)
    return [key for (key,) in inquiries]


async def _final_lag(system: System) -> Optional[int]:
    """Return the lag, or None if Kafka did not answer for READ_S."""
    deadline = time.monotonic() + READ_S
    while True:
        lag = await asyncio.to_thread(_lag, system)
        if lag is not None or time.monotonic() > deadline:
            return lag
        await asyncio.sleep(0.5)


async def _answered(redis: Servers, talk: Talk) -> bool:
    """Return whether every message of a talk has a marker."""
    keys = ConversationKeys("kefu", talk.key)
    try:
        client = await redis.holding(keys.state)
        return all([await client.exists(keys.marker(sent.message_id)) for sent in reversed(talk.sent)])
    except (RedisError, OSError, StoreUnavailable):
        redis.doubt()
        return False


async def _kept(redis: Servers, talk: Talk) -> Kept:
    """Read a conversation, with retries for READ_S: Redis may still be slow after the faults."""
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
    client: Any = await redis.holding(keys.state)  # redis-py's types don't know that all answers are bytes
    version, seq = await client.hmget(keys.state, "version", "seq")
    turns = [orjson.loads(turn) for turn in await client.lrange(keys.turns, 0, -1)]
    entries = await client.xrange(keys.replies)
    replies = [(int(entry.partition(b"-")[0]), orjson.loads(fields[b"r"])) for entry, fields in entries]
    markers = {sent.message_id: await client.get(keys.marker(sent.message_id)) for sent in talk.sent}
    existing = {message_id: marker for message_id, marker in markers.items() if marker is not None}
    return Kept(int(version or 0), int(seq or 0), turns, replies, existing)


async def _ask_api(system: System, evidence: Evidence) -> None:
    async with httpx.AsyncClient(base_url=system.addresses[0], timeout=20, trust_env=False) as client:
        for talk in evidence.talks:
            evidence.replies[talk.key] = [reply async for reply in _pages(client, talk)]
            for sent in talk.sent:
                answer = await _get(client, talk, f"/v1/messages/{sent.message_id}")
                evidence.statuses[sent.message_id] = answer.json().get("status", f"HTTP {answer.status_code}")


async def _get(client: httpx.AsyncClient, talk: Talk, path: str) -> httpx.Response:
    """Return the API's answer; a 503 or a lost connection is retried for READ_S."""
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
    """Return the number of records of the inbox without a committed offset; None if Kafka doesn't answer."""
    try:
        return lag(_kafka(system), USER_QUERY, GROUP)
    except QueueUnavailable:
        return None


def _kafka(system: System) -> KafkaSettings:
    return KafkaSettings(system.stack.kafka.brokers)


def _by_conversation(kafka: KafkaSettings, topic: str) -> Dict[str, List[Tuple[str, bytes]]]:
    """Return id and value of every record by conversation, repeated ones included. Raises QueueUnavailable."""
    records: Dict[str, List[Tuple[str, bytes]]] = defaultdict(list)
    with closing(TopicReader(kafka, READ_S, READ_S)) as reader:
        for number in range(reader.partitions(topic)):
            for record in reader.records(topic, number):
                records[record.key.decode()].append((orjson.loads(record.value)["id"], record.value))
    return dict(records)
