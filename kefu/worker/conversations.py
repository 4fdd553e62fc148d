"""The state of conversations in Redis: read with the message's marker, written in one script.

In: a message's conversation. Out: `Stored`, and after the turn one atomic write of new events,
marker, replies and the hint that wakes the gateway. See ops/decisions/0003 for the protocol.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Awaitable, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import orjson
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from kefu.errors import AlreadyProcessed, StoreUnavailable, VersionConflict
from kefu.keys import REPLIES_KEPT, ConversationKeys, due_index
from kefu.settings import CONVERSATION_LIFETIME_S, MARKER_LIFETIME_S, RedisSettings
from kefu.worker.redis_client import MAX_CONNECTIONS, connect

# A server that is there but can't serve now, or no more: redis-py has a class for some of these answers,
# and leaves the prefix to the others. ASK and TRYAGAIN: the slot is being moved, which takes a moment.
# Source: Redis, error prefixes; redis-py 4.6, EXCEPTION_CLASSES.
_PASSING_KINDS = (OutOfMemoryError, ReadOnlyError, NoPermissionError)
_CLUSTER_PREFIXES = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
_PASSING_PREFIXES = ("MISCONF", "NOREPLICAS", "BUSY", "MASTERDOWN", "EXECABORT", *_CLUSTER_PREFIXES)

_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS  # Rasa's events hold numpy's floats

# KEYS: state, turns, replies, marker, hint. ARGV: version expected, turn's record ("" for none),
# marker, message id, last seq, snapshot ("" for none), turns to keep, lifetime of the conversation
# and of the marker in s, replies kept, then each reply's seq and JSON.
_WRITE = """
local marker = redis.call('GET', KEYS[4])
if marker then
  redis.call('EXPIRE', KEYS[4], ARGV[9])  -- a write, so that WAIT has something to wait for
  return {2, marker}
end
local found = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if found ~= tonumber(ARGV[1]) then return {1, found} end
if ARGV[6] ~= '' then
  redis.call('LTRIM', KEYS[2], -tonumber(ARGV[7]), -1)
  redis.call('HSET', KEYS[1], 'snapshot', ARGV[6])
end
if ARGV[2] ~= '' then redis.call('RPUSH', KEYS[2], ARGV[2]) end
redis.call('HSET', KEYS[1], 'version', found + 1, 'seq', ARGV[5])
for i = 11, #ARGV, 2 do
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[10], ARGV[i] .. '-0', 'r', ARGV[i + 1])
end
redis.call('SET', KEYS[4], ARGV[3], 'EX', ARGV[9])
for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ARGV[8]) end
redis.call('SPUBLISH', KEYS[5], ARGV[4])
return {0, found + 1}
"""


@dataclass(frozen=True)
class Stored:
    """What Redis holds of a conversation; all empty for one never seen.

    Attributes:
        version: one more with each write.
        seq: sequence number of the last reply.
        snapshot: events (Rasa's dicts) that stand for the turns trimmed away.
        turns: the events of each turn kept, oldest first.
    """

    version: int = 0
    seq: int = 0
    snapshot: List[Dict[str, Any]] = field(default_factory=list)
    turns: List[List[Dict[str, Any]]] = field(default_factory=list)


class Arm(NamedTuple):
    """A timer that a turn leaves behind: its entry in the index of the conversation's partition, due in ms."""

    partition: int
    member: str
    due: int


@dataclass(frozen=True)
class TurnWrite:
    """One atomic write, prepared: kept until it is sure, sent again as it is.

    Attributes:
        version: that the turn was computed from.
        events: the turn's new events; an empty list stores no turn (a dead letter's marker).
        marker: the encoded AnswerGenerated.
        replies: with their sequence numbers, ascending.
        snapshot: stands for all but the last `keep` turns before this one; None trims nothing.
        arms: timers, all of one partition; they reach the index before the turn is stored.
    """

    message_id: str
    version: int
    seq: int
    events: List[Dict[str, Any]]
    marker: bytes
    replies: List[Dict[str, Any]]
    snapshot: Optional[List[Dict[str, Any]]] = None
    keep: int = 0
    arms: Sequence[Arm] = ()

    def arguments(self) -> List[Any]:
        """Return the script's ARGV."""
        record = orjson.dumps({"v": self.version + 1, "events": self.events}, option=_JSON) if self.events else b""
        snapshot = b"" if self.snapshot is None else orjson.dumps(self.snapshot, option=_JSON)
        fixed = [self.version, record, self.marker, self.message_id, self.seq, snapshot, self.keep]
        limits = [CONVERSATION_LIFETIME_S, MARKER_LIFETIME_S, REPLIES_KEPT]
        replies = [part for reply in self.replies for part in (reply["seq"], orjson.dumps(reply, option=_JSON))]
        return fixed + limits + replies


class Conversations:
    """Redis as the one store of conversations. Every method raises StoreUnavailable when it is away."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._servers = connect(settings)
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS - 4)

    def keys(self, conversation: str) -> ConversationKeys:
        """Return the names of a conversation's keys."""
        return ConversationKeys(self._settings.key_prefix, conversation)

    async def ping(self) -> None:
        """Ask whether Redis answers, each master of it."""

        async def ping_all() -> None:
            await asyncio.gather(*(redis.ping() for redis in await self._servers.masters()))

        await self._bounded(ping_all)

    async def marker(self, conversation: str, message_id: str) -> Optional[bytes]:
        """Return the outcome of a message, None if it has not been processed."""
        key = self.keys(conversation).marker(message_id)
        found = await self._ask(key, lambda redis: redis.get(key))
        if found is not None and self._settings.wait_replicas:
            await self._ask(key, lambda redis: self._replicated(redis, "EXPIRE", key, MARKER_LIFETIME_S))
        return found

    async def position(self, conversation: str) -> Tuple[int, int]:
        """Return version and last sequence number, whatever else the state holds."""
        state = self.keys(conversation).state
        version, seq = await self._ask(state, lambda redis: redis.hmget(state, "version", "seq"))
        return int(version or 0), int(seq or 0)

    async def load(self, conversation: str) -> Stored:
        """Return the whole state in one round trip, from the master."""
        keys = self.keys(conversation)

        async def read(redis: Redis) -> Any:
            pipe = redis.pipeline(transaction=True)
            pipe.hmget(keys.state, "version", "seq", "snapshot")
            pipe.lrange(keys.turns, 0, -1)
            return await pipe.execute()

        (version, seq, snapshot), turns = await self._ask(keys.state, read)
        if version is None:
            return Stored()
        events = [orjson.loads(turn)["events"] for turn in turns]
        return Stored(int(version), int(seq or 0), orjson.loads(snapshot or b"[]"), events)

    async def turn_events(self, conversation: str, version: int) -> List[Dict[str, Any]]:
        """Return the events that the write of `version` stored; empty when they have been trimmed."""
        keys = self.keys(conversation)
        for raw in reversed(await self._ask(keys.turns, lambda redis: redis.lrange(keys.turns, -128, -1))):
            record = orjson.loads(raw)
            if record["v"] == version:
                return record["events"]
        return []

    async def write(self, conversation: str, turn: TurnWrite) -> None:
        """Store a turn, all of it or nothing.

        After StoreUnavailable the write may have happened: send the same one again.

        Raises:
            AlreadyProcessed: the message has its marker.
            VersionConflict: the stored version is not the one that the turn was computed from.
        """
        keys = self.keys(conversation)
        names = (keys.state, keys.turns, keys.replies, keys.marker(turn.message_id), keys.hint)
        command = ("EVAL", _WRITE, len(names), *names, *turn.arguments())

        async def store(redis: Redis) -> Any:
            return await self._replicated(redis, *command, before=await self._arm(redis, turn.arms))

        kind, found = await self._ask(keys.state, store)
        if kind == 2:
            raise AlreadyProcessed(found)
        if kind == 1:
            raise VersionConflict(turn.version, int(found))

    async def replace(self, conversation: str, events: List[Dict[str, Any]]) -> None:
        """Put `events` in the place of all that is stored. For designers' commands alone."""
        keys = self.keys(conversation)

        async def put(redis: Redis) -> None:
            pipe = redis.pipeline(transaction=True)
            pipe.delete(keys.turns)
            pipe.hdel(keys.state, "snapshot")
            pipe.rpush(keys.turns, orjson.dumps({"v": 0, "events": events}))
            pipe.hincrby(keys.state, "version", 1)
            pipe.expire(keys.turns, CONVERSATION_LIFETIME_S)
            pipe.expire(keys.state, CONVERSATION_LIFETIME_S)
            await pipe.execute()

        await self._ask(keys.state, put)

    async def close(self) -> None:
        """Close the connections."""
        await self._servers.close()

    async def on_indexes(self, commands: Dict[int, Callable[[str], Tuple[Any, ...]]]) -> Dict[int, Any]:
        """Run a command on the index of each partition: one round trip for all that one server holds.

        Args:
            commands: by partition; each gets the index's key.
        """

        async def run() -> Dict[int, Any]:
            servers: Dict[Redis, Dict[int, Tuple[Any, ...]]] = {}
            for partition, command in commands.items():
                key = due_index(self._settings.key_prefix, partition)
                servers.setdefault(await self._servers.holding(key), {})[partition] = command(key)
            found: Dict[int, Any] = {}
            for redis, here in servers.items():
                async with redis.pipeline(transaction=False) as pipe:
                    for each in here.values():
                        pipe.execute_command(*each)
                    found.update(zip(here, await pipe.execute(), strict=True))
            return found

        return await self._bounded(run)

    async def _arm(self, redis: Redis, arms: Sequence[Arm]) -> Tuple[Any, ...]:
        """Return the command that arms the timers, empty for none; where another server holds them, run it."""
        if not arms:
            return ()
        key = due_index(self._settings.key_prefix, arms[0].partition)
        command = ("ZADD", key, *(part for arm in arms for part in (arm.due, arm.member)))
        holder = await self._servers.holding(key)
        if holder is redis:
            return command
        await self._replicated(holder, *command)
        return ()

    async def _replicated(self, redis: Redis, *command: Any, before: Tuple[Any, ...] = ()) -> Any:
        """Run a write, and WAIT where the settings ask for it, on one connection; `before` is sent ahead of it."""
        async with redis.pipeline(transaction=False) as pipe:
            if before:
                pipe.execute_command(*before)
            pipe.execute_command(*command)
            if self._settings.wait_replicas:
                pipe.execute_command("WAIT", self._settings.wait_replicas, int(self._settings.timeout_s * 1000))
            answers = await pipe.execute(raise_on_error=False)  # it would put words before the prefix
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        del answers[: bool(before)]
        if self._settings.wait_replicas and answers[1] < self._settings.wait_replicas:
            raise StoreUnavailable(f"{answers[1]} replicas have the write, {self._settings.wait_replicas} needed")
        return answers[0]

    async def _ask(self, key: str, call: Callable[[Redis], Awaitable[Any]]) -> Any:
        """Run a call on the master that holds `key`."""

        async def on_its_master() -> Any:
            return await call(await self._servers.holding(key))

        return await self._bounded(on_its_master)

    async def _bounded(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Run a call; whatever a server that is away or failing over makes of it is StoreUnavailable."""
        try:
            async with self._slots:
                return await asyncio.wait_for(call(), self._settings.timeout_s * 2)
        except ResponseError as error:
            if not _passes(error):
                raise
            cause: Exception = error
        except (RedisError, asyncio.TimeoutError, OSError) as error:
            cause = error
        self._servers.doubt()
        raise StoreUnavailable(cause.__class__.__name__) from cause


def _passes(error: ResponseError) -> bool:
    """Return whether the same call may succeed later, here or on another server."""
    # In a transaction redis-py puts words before the prefix: "... caused error: ('MOVED 1 ...',)".
    answer = str(error).rpartition("caused error: ")[2].lstrip("('\"")
    return isinstance(error, _PASSING_KINDS) or answer.startswith(_PASSING_PREFIXES)
