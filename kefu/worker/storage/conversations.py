"""The state of conversations in Redis: read with the message's marker, written in one script.

In: a message's conversation. Out: `Stored`, and after the turn one atomic write of new events,
marker, replies and the hint that wakes the gateway. See ops/decisions/0003 for the protocol.
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

_HANDOFF = 10  # of the script's arguments


class Conversations:
    """Redis as the one store of conversations. Every method raises StoreUnavailable when it is away."""

    def __init__(self, settings: RedisSettings) -> None:
        """Prepare; `servers` is where the conversations lie, for what else is kept there."""
        self._settings = settings
        self.servers = Servers(settings)

    def keys(self, conversation: str) -> ConversationKeys:
        """Return the names of a conversation's keys."""
        return ConversationKeys(self._settings.key_prefix, conversation)

    async def marker(self, conversation: str, message_id: str) -> Optional[bytes]:
        """Return the outcome of a message, None if it has not been processed."""
        key = self.keys(conversation).marker(message_id)
        (found,) = await self.servers.on(key, ("GET", key))
        if found is not None and self._settings.wait_replicas:
            await self.servers.on(key, ("EXPIRE", key, MARKER_LIFETIME_S), sure=True)
        return found

    async def position(self, conversation: str) -> Tuple[int, int]:
        """Return version and last sequence number, whatever else the state holds."""
        state = self.keys(conversation).state
        ((version, seq),) = await self.servers.on(state, ("HMGET", state, "version", "seq"))
        return int(version or 0), int(seq or 0)

    async def load(self, conversation: str) -> Stored:
        """Return the whole state as it was at one moment, from the master."""
        keys = self.keys(conversation)
        version, seq, snapshot, turns, raw = await self.servers.run(READ, (keys.state, keys.turns))
        history = raw.decode()
        if version is None:
            return Stored(history=history)
        events = [orjson.loads(turn)["events"] for turn in turns]
        return Stored(int(version), int(seq or 0), orjson.loads(snapshot or b"[]"), events, history)

    async def histories(self) -> FrozenSet[str]:
        """Return the history of each master, see `Servers.histories`."""
        return await self.servers.histories()

    async def skip(self, conversation: str, version: int, seq: int) -> None:
        """Let a conversation go on from a version above the stored one: what is between is lost."""
        state = self.keys(conversation).state
        await self.servers.run(SKIP, (state,), (version, seq, CONVERSATION_LIFETIME_S), sure=True)

    async def turn(self, conversation: str, message_id: str) -> Optional[Tuple[bytes, List[Dict[str, Any]]]]:
        """Return a message's marker and its turn's events, as they were at one moment; None without a marker.

        There are no events where the turn left none, or was trimmed.
        """
        keys = self.keys(conversation)
        marker, turns = await self.servers.run(READ_TURN, (keys.marker(message_id), keys.turns))
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
        kind, found = await self.servers.run(WRITE, names, arguments, sure=True, before=before)
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
        """Close the connections."""
        await self.servers.close()

    async def arm(self, conversation: str, arms: Sequence[Arm]) -> None:
        """Put timers into their index without a turn."""
        if arms:
            state = self.keys(conversation).state
            armed = await self._arm(state, arms)
            if armed:
                await self.servers.on(state, *armed, sure=True)

    async def _arm(self, state: str, arms: Sequence[Arm]) -> Sequence[Command]:
        """Return the command that arms the timers ahead of the write; where another server holds them, run it."""
        if not arms:
            return ()
        key = due_index(self._settings.key_prefix, arms[0].partition)
        command = ("ZADD", key, *(part for arm in arms for part in (arm.due, arm.member)))
        if await self.servers.held_together(key, state):
            return (command,)
        await self.servers.on(key, command, sure=True)
        return ()

    async def _list(self, conversation: str, turn: Union[TurnWrite, KeptWrite]) -> Sequence[Command]:
        """Return the commands that show a hand-over to the desk, as `_arm` does; none for another turn."""
        if not turn.listed and len(turn.arguments[_HANDOFF]) <= 1:  # a turn from Kafka tells by its events alone
            return ()
        key, commands = desk_index.entering(self._settings.key_prefix, conversation)
        if await self.servers.held_together(key, self.keys(conversation).state):
            return commands
        await self.servers.on(key, *commands)
        return ()

    async def _unlist(self, conversation: str) -> None:
        """Show a hand-over that is over to the desk no more; what stays listed is seen to be over."""
        key, commands = desk_index.leaving(self._settings.key_prefix, conversation)
        try:
            await self.servers.on(key, *commands)
        except StoreUnavailable as error:
            logger.warning("an ended hand-over stays listed", extra={"fields": {"error": str(error)}})


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
