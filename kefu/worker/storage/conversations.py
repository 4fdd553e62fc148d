"""The state of conversations in Redis: read with the message's marker, written in one script.

In: a message's conversation. Out: `Stored`, and after the turn one atomic write of new events,
marker, replies and the hint that wakes the gateway. See ops/decisions/0003 for the protocol.
"""

import asyncio
import hashlib
import logging
import re
from typing import Any, Awaitable, Callable, Dict, FrozenSet, List, Optional, Sequence, Tuple, Union

import orjson
from redis.exceptions import (
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from kefu.errors import AlreadyProcessed, StoreUnavailable, VersionConflict
from kefu.keys import ConversationKeys, due_index
from kefu.settings import CONVERSATION_LIFETIME_S, MARKER_LIFETIME_S, RedisSettings
from kefu.worker.conversation.stored import Arm, KeptWrite, Stored, TurnWrite
from kefu.worker.storage import desk_index
from kefu.worker.storage.redis_batch import Batches, Command
from kefu.worker.storage.redis_client import connect

logger = logging.getLogger(__name__)

# A server that is there but can't serve now, or no more: redis-py has a class for some of these answers,
# and leaves the prefix to the others. ASK and TRYAGAIN: the slot is being moved, which takes a moment.
# Source: Redis, error prefixes; redis-py 4.6, EXCEPTION_CLASSES.
_PASSING_KINDS = (OutOfMemoryError, ReadOnlyError, NoPermissionError)
_CLUSTER_PREFIXES = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN")
_DEMOTED = "WAIT cannot be used with replica"  # it was the master when the batch left
_PASSING_PREFIXES = ("MISCONF", "NOREPLICAS", "BUSY", "MASTERDOWN", "EXECABORT", _DEMOTED, *_CLUSTER_PREFIXES)

_CONNECTED = re.compile(rb"connected_slaves:(\d+)")
_HISTORY = re.compile(rb"master_replid:([0-9a-f]+)")  # another one after a failover or a restart
_HANDOFF = 10  # of the script's arguments
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS  # Rasa's events hold numpy's floats


class Script:
    """A Lua script, known to a server by its digest once it has run there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# KEYS: state, turns, replies, marker, hint. ARGV: version expected, turn's record ("" for none),
# marker, message id, last seq, snapshot ("" for none), turns to keep, lifetime of the conversation
# and of the marker in s, replies kept, hand-over ("" for as it was, "-" for none), then each reply's seq and JSON.
_WRITE = Script(
    """
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
if ARGV[11] == '-' then
  redis.call('HDEL', KEYS[1], 'handoff')
elseif ARGV[11] ~= '' then
  redis.call('HSET', KEYS[1], 'handoff', ARGV[11])
end
for i = 12, #ARGV, 2 do
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[10], ARGV[i] .. '-0', 'r', ARGV[i + 1])
end
redis.call('SET', KEYS[4], ARGV[3], 'EX', ARGV[9])
for i = 1, 3 do redis.call('EXPIRE', KEYS[i], ARGV[8]) end
redis.call('SPUBLISH', KEYS[5], ARGV[4])
return {0, found + 1}
"""
)
# KEYS: state, turns. In one piece, so that no write comes between version, turns and history.
_READ = Script(
    """
local state = redis.call('HMGET', KEYS[1], 'version', 'seq', 'snapshot')
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
return {state[1], state[2], state[3], redis.call('LRANGE', KEYS[2], 0, -1), history}
"""
)
# KEYS: marker, turns. In one piece: a failover between the two would leave a marker without its turn.
_READ_TURN = Script("return {redis.call('GET', KEYS[1]), redis.call('LRANGE', KEYS[2], -128, -1)}")
# KEYS: state. ARGV: version and seq to go on from, lifetime in s. Only ever forward.
_SKIP = Script(
    """
local state = redis.call('HMGET', KEYS[1], 'version', 'seq')
if tonumber(state[1] or '0') >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'seq', math.max(tonumber(state[2] or '0'), tonumber(ARGV[2])))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
)


class Conversations:
    """Redis as the one store of conversations. Every method raises StoreUnavailable when it is away."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._servers = connect(settings)
        self._replicas_counted = False
        self._batches = Batches(settings.timeout_s * 2, settings.wait_replicas)

    def keys(self, conversation: str) -> ConversationKeys:
        """Return the names of a conversation's keys."""
        return ConversationKeys(self._settings.key_prefix, conversation)

    async def marker(self, conversation: str, message_id: str) -> Optional[bytes]:
        """Return the outcome of a message, None if it has not been processed."""
        key = self.keys(conversation).marker(message_id)
        (found,) = await self._ask(key, ("GET", key))
        if found is not None and self._settings.wait_replicas:
            await self._ask(key, ("EXPIRE", key, MARKER_LIFETIME_S), sure=True)
        return found

    async def position(self, conversation: str) -> Tuple[int, int]:
        """Return version and last sequence number, whatever else the state holds."""
        state = self.keys(conversation).state
        ((version, seq),) = await self._ask(state, ("HMGET", state, "version", "seq"))
        return int(version or 0), int(seq or 0)

    async def load(self, conversation: str) -> Stored:
        """Return the whole state as it was at one moment, from the master."""
        keys = self.keys(conversation)
        version, seq, snapshot, turns, raw = await self._script(_READ, (keys.state, keys.turns))
        history = raw.decode()
        if version is None:
            return Stored(history=history)
        events = [orjson.loads(turn)["events"] for turn in turns]
        return Stored(int(version), int(seq or 0), orjson.loads(snapshot or b"[]"), events, history)

    async def histories(self) -> FrozenSet[str]:
        """Return the history of each master; that they answer is told by it, too."""
        answers = await self._passing(self._info())
        found = [_HISTORY.search(answer) for answer in answers]
        if not all(found):
            raise StoreUnavailable("a server does not tell its history")
        if self._settings.wait_replicas and not self._replicas_counted:
            self._replicas_counted = True
            self._count_replicas(answers)
        return frozenset(each[1].decode() for each in found)

    async def _info(self) -> List[bytes]:
        asked = [self._batches.send(redis, ("INFO", "replication")) for redis in await self._servers.masters()]
        answers = [answer for (answer,) in await asyncio.gather(*asked)]
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    def _count_replicas(self, answers: Sequence[bytes]) -> None:
        """Say so where fewer replicas are waited for than there are.

        A replica that nobody waited for may become master without the write; and an old master that comes back from
        an isolation may find one that still follows it, and go on as if it were the master.
        """
        for answer in answers:
            found = _CONNECTED.search(answer)
            replicas = int(found[1]) if found else -1  # -1: the server does not say
            fields = {"replicas": replicas, "waited_for": self._settings.wait_replicas}
            if not 0 <= replicas <= self._settings.wait_replicas:
                logger.warning("a failover may lose writes: wait for all replicas", extra={"fields": fields})

    async def skip(self, conversation: str, version: int, seq: int) -> None:
        """Let a conversation go on from a version above the stored one: what is between is lost."""
        state = self.keys(conversation).state
        await self._script(_SKIP, (state,), (version, seq, CONVERSATION_LIFETIME_S), sure=True)

    async def turn(self, conversation: str, message_id: str) -> Optional[Tuple[bytes, List[Dict[str, Any]]]]:
        """Return a message's marker and its turn's events, as they were at one moment; None without a marker.

        There are no events where the turn left none, or was trimmed.
        """
        keys = self.keys(conversation)
        marker, turns = await self._script(_READ_TURN, (keys.marker(message_id), keys.turns))
        if marker is None:
            return None
        return marker, _events_of(turns, orjson.loads(marker)["tracker_version"])

    async def write(self, conversation: str, turn: Union[TurnWrite, KeptWrite]) -> None:
        """Store a turn, all of it or nothing.

        After StoreUnavailable the write may have happened: send the same one again.

        Raises:
            AlreadyProcessed: the message has its marker.
            VersionConflict: the stored version is not the one that the turn was computed from.
        """
        keys = self.keys(conversation)
        names = (keys.state, keys.turns, keys.replies, keys.marker(turn.message_id), keys.hint)
        arguments = turn.arguments
        before = [*await self._arm(names[0], turn.arms), *await self._list(conversation, turn)]
        kind, found = await self._script(_WRITE, names, arguments, sure=True, before=before)
        if kind == 2:
            raise AlreadyProcessed(found)
        if kind == 1:
            raise VersionConflict(turn.version, int(found))
        if arguments[_HANDOFF] == b"-":
            await self._unlist(conversation)

    async def replace(self, conversation: str, events: List[Dict[str, Any]]) -> None:
        """Put `events` in the place of all that is stored. For designers' commands alone."""
        keys = self.keys(conversation)

        record = orjson.dumps({"v": 0, "events": events})
        await self._ask(
            keys.state,
            ("MULTI",),
            ("DEL", keys.turns),
            ("HDEL", keys.state, "snapshot"),
            ("RPUSH", keys.turns, record),
            ("HINCRBY", keys.state, "version", 1),
            ("EXPIRE", keys.turns, CONVERSATION_LIFETIME_S),
            ("EXPIRE", keys.state, CONVERSATION_LIFETIME_S),
            ("EXEC",),
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._batches.close()
        await self._servers.close()

    async def on(self, key: str, *commands: Command) -> List[Any]:
        """Run commands on the server that holds a key; returns their answers."""
        return await self._ask(key, *commands)

    async def on_indexes(self, commands: Dict[int, Callable[[str], Command]]) -> Dict[int, Any]:
        """Run a command on the index of each partition: one round trip for all that one server holds.

        Args:
            commands: by partition; each gets the index's key.
        """

        async def run(partition: int, command: Callable[[str], Command]) -> Any:
            key = due_index(self._settings.key_prefix, partition)
            (answer,) = await self._ask(key, command(key))
            return answer

        answers = await asyncio.gather(*(run(partition, command) for partition, command in commands.items()))
        return dict(zip(commands, answers, strict=True))

    async def arm(self, conversation: str, arms: Sequence[Arm]) -> None:
        """Put timers into their index without a turn."""
        if arms:
            state = self.keys(conversation).state
            armed = await self._arm(state, arms)
            if armed:
                await self._ask(state, *armed, sure=True)

    async def _arm(self, state: str, arms: Sequence[Arm]) -> Sequence[Command]:
        """Return the command that arms the timers ahead of the write; where another server holds them, run it."""
        if not arms:
            return ()
        key = due_index(self._settings.key_prefix, arms[0].partition)
        command = ("ZADD", key, *(part for arm in arms for part in (arm.due, arm.member)))
        if await self._passing(self._held_together(key, state)):
            return (command,)
        await self._ask(key, command, sure=True)
        return ()

    async def _list(self, conversation: str, turn: Union[TurnWrite, KeptWrite]) -> Sequence[Command]:
        """Return the commands that show a hand-over to the desk, as `_arm` does; none for another turn."""
        if not turn.listed and len(turn.arguments[_HANDOFF]) <= 1:  # a turn from Kafka tells by its events alone
            return ()
        key, commands = desk_index.entering(self._settings.key_prefix, conversation)
        if await self._passing(self._held_together(key, self.keys(conversation).state)):
            return commands
        await self._ask(key, *commands)
        return ()

    async def _unlist(self, conversation: str) -> None:
        """Show a hand-over that is over to the desk no more; what stays listed is seen to be over."""
        key, commands = desk_index.leaving(self._settings.key_prefix, conversation)
        try:
            await self._ask(key, *commands)
        except StoreUnavailable as error:
            logger.warning("an ended hand-over stays listed", extra={"fields": {"error": str(error)}})

    async def _held_together(self, one: str, other: str) -> bool:
        return await self._servers.holding(one) is await self._servers.holding(other)

    async def _script(
        self,
        script: "Script",
        keys: Sequence[str],
        arguments: Sequence[Any] = (),
        sure: bool = False,
        before: Sequence[Command] = (),
    ) -> Any:
        """Run a script on the server of its keys, by its digest; `before` is sent ahead of it."""
        given = (len(keys), *keys, *arguments)
        try:
            answers = await self._ask(keys[0], *before, ("EVALSHA", script.digest, *given), sure=sure)
        except NoScriptError:  # a server that has just been started
            answers = await self._ask(keys[0], *before, ("EVAL", script.text, *given), sure=sure)
        return answers[-1]

    async def _ask(self, key: str, *commands: Command, sure: bool = False) -> List[Any]:
        """Run commands on the master that holds `key`; `sure` waits for replicas where the settings ask for it."""
        return await self._passing(self._answers(key, commands, sure))

    async def _answers(self, key: str, commands: Sequence[Command], sure: bool) -> List[Any]:
        answers = await self._batches.send(await self._servers.holding(key), *commands, sure=sure)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _passing(self, call: Awaitable[Any]) -> Any:
        """Await a call; whatever a server that is away or failing over makes of it is StoreUnavailable."""
        try:
            return await call
        except ResponseError as error:
            if not _passes(error):
                raise
            cause: Exception = error
        except (RedisError, asyncio.TimeoutError, OSError) as error:
            cause = error
        self._servers.doubt()
        raise StoreUnavailable(cause.__class__.__name__) from cause


def _events_of(turns: Sequence[bytes], version: int) -> List[Dict[str, Any]]:
    """Return the events of one turn among many; what can't be read is another one."""
    for raw in reversed(turns):
        try:
            record = orjson.loads(raw)
        except orjson.JSONDecodeError:
            continue
        if record["v"] == version:
            return record["events"]
    return []


def _passes(error: ResponseError) -> bool:
    """Return whether the same call may succeed later, here or on another server."""
    return isinstance(error, _PASSING_KINDS) or str(error).startswith(_PASSING_PREFIXES)
