"""Reads and writes the state of conversations in Redis.

In: a message's conversation. Out: `Stored`; after the turn, one atomic write of new events, marker, replies and the
hint that wakes the gateway. See ops/decisions/0003 for the protocol.
"""

import logging
from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple, Union

import orjson

from kefu.errors import AlreadyProcessed, StoreUnavailable, VersionConflict
from kefu.keys import ConversationKeys, due_index
from kefu.settings import CONVERSATION_LIFETIME_S, MARKER_LIFETIME_S, RedisSettings
from kefu.worker.conversation.stored import Arm, KeptWrite, Stored, TurnWrite
from kefu.worker.storage import desk_index
from kefu.worker.storage.redis_batch import Command
from kefu.worker.storage.scripts import READ, READ_TURN, SKIP, WRITE
from kefu.worker.storage.servers import Servers

logger = logging.getLogger(__name__)

_HANDOFF = 10  # the hand-over's index in the arguments of `WRITE`


class Conversations:
    """Redis as the one store of conversations. Every method raises StoreUnavailable if Redis is away."""

    def __init__(self, settings: RedisSettings) -> None:
        """Create the store without connecting. `servers` is public for other data on the same servers."""
        self._settings = settings
        self.servers = Servers(settings)

    def keys(self, conversation: str) -> ConversationKeys:
        """Return the names of a conversation's keys."""
        return ConversationKeys(self._settings.key_prefix, conversation)

    async def marker(self, conversation: str, message_id: str) -> Optional[bytes]:
        """Return the outcome of a message, None if it has not been processed."""
        key = self.keys(conversation).marker(message_id)
        (marker,) = await self.servers.on(key, ("GET", key))
        # A marker that was read may not have reached the replicas. WAIT only waits for a write, so EXPIRE is one.
        if marker is not None and self._settings.wait_replicas:
            await self.servers.on(key, ("EXPIRE", key, MARKER_LIFETIME_S), sure=True)
        return marker

    async def position(self, conversation: str) -> Tuple[int, int]:
        """Return the version and the last reply's sequence number of a conversation.

        Reads nothing else, so it also works if the rest of the stored state is broken.
        """
        state = self.keys(conversation).state
        ((version, seq),) = await self.servers.on(state, ("HMGET", state, "version", "seq"))
        return int(version or 0), int(seq or 0)

    async def load(self, conversation: str) -> Stored:
        """Return the whole state, read from the master in one step."""
        keys = self.keys(conversation)
        version, seq, snapshot, turns, raw = await self.servers.run(READ, (keys.state, keys.turns))
        history = raw.decode()
        if version is None:
            return Stored(history=history)
        events = [orjson.loads(turn)["events"] for turn in turns]
        return Stored(int(version), int(seq or 0), orjson.loads(snapshot or b"[]"), events, history)

    async def histories(self) -> FrozenSet[str]:
        """Return the replication id of each master. A master has another id after a failover or a restart."""
        return await self.servers.histories()

    async def skip(self, conversation: str, version: int, seq: int) -> None:
        """Raise the stored version and sequence number of a conversation; the turns in between are lost."""
        state = self.keys(conversation).state
        await self.servers.run(SKIP, (state,), (version, seq, CONVERSATION_LIFETIME_S), sure=True)

    async def turn(self, conversation: str, message_id: str) -> Optional[Tuple[bytes, List[Dict[str, Any]]]]:
        """Return a message's marker and its turn's events, read in one step; None if there is no marker.

        The events are empty if the turn stored none or was trimmed.
        """
        keys = self.keys(conversation)
        marker, turns = await self.servers.run(READ_TURN, (keys.marker(message_id), keys.turns))
        if marker is None:
            return None
        return marker, _events_of(turns, orjson.loads(marker)["tracker_version"])

    async def write(self, conversation: str, turn: Union[TurnWrite, KeptWrite]) -> None:
        """Store a turn completely or not at all.

        After StoreUnavailable the write may have succeeded: send the same write again.

        Raises:
            AlreadyProcessed: the message already has a marker.
            VersionConflict: the stored version is not the one that the turn was computed from.
        """
        keys = self.keys(conversation)
        names = (keys.state, keys.turns, keys.replies, keys.marker(turn.message_id), keys.hint)
        arguments = turn.arguments
        before = [*await self._arm(names[0], turn.arms), *await self._list(conversation, turn)]
        kind, answer = await self.servers.run(WRITE, names, arguments, sure=True, before=before)
        if kind == 2:
            raise AlreadyProcessed(answer)
        if kind == 1:
            raise VersionConflict(turn.version, int(answer))
        if arguments[_HANDOFF] == b"-":
            await self._unlist(conversation)

    async def replace(self, conversation: str, events: List[Dict[str, Any]]) -> None:
        """Replace all stored turns by `events`. Only designers' commands use it."""
        keys = self.keys(conversation)
        record = orjson.dumps({"v": 0, "events": events})
        await self.servers.on(
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
        """Close the connections to Redis."""
        await self.servers.close()

    async def arm(self, conversation: str, arms: Sequence[Arm]) -> None:
        """Put timers into their index, without storing a turn."""
        if arms:
            state = self.keys(conversation).state
            armed = await self._arm(state, arms)
            if armed:
                await self.servers.on(state, *armed, sure=True)

    async def _arm(self, state: str, arms: Sequence[Arm]) -> Sequence[Command]:
        """Return the command that adds timers to their index, so that it is sent together with the write.

        If another server holds the index, run the command at once and return none.
        """
        if not arms:
            return ()
        key = due_index(self._settings.key_prefix, arms[0].partition)
        command = ("ZADD", key, *(part for arm in arms for part in (arm.due, arm.member)))
        if await self.servers.held_together(key, state):
            return (command,)
        await self.servers.on(key, command, sure=True)
        return ()

    async def _list(self, conversation: str, turn: Union[TurnWrite, KeptWrite]) -> Sequence[Command]:
        """Return the commands that put a hand-over into the desk's index; none for a turn without a hand-over.

        If another server holds the index, run the commands at once and return none, as `_arm` does.
        """
        if not turn.listed and len(turn.arguments[_HANDOFF]) <= 1:  # `listed` is not set on a turn read from Kafka
            return ()
        key, commands = desk_index.entering(self._settings.key_prefix, conversation)
        if await self.servers.held_together(key, self.keys(conversation).state):
            return commands
        await self.servers.on(key, *commands)
        return ()

    async def _unlist(self, conversation: str) -> None:
        """Remove an ended hand-over from the desk's index. If that fails, readers see its end in the state."""
        key, commands = desk_index.leaving(self._settings.key_prefix, conversation)
        try:
            await self.servers.on(key, *commands)
        except StoreUnavailable as error:
            logger.warning("an ended hand-over stays listed", extra={"fields": {"error": str(error)}})


def _events_of(turns: Sequence[bytes], version: int) -> List[Dict[str, Any]]:
    """Return the events of the turn with this version. A record that can't be read is skipped."""
    for raw in reversed(turns):
        try:
            record = orjson.loads(raw)
        except orjson.JSONDecodeError:
            continue
        if record["v"] == version:
            return record["events"]
    return []
