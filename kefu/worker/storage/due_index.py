"""The index of due times in Redis: when to look at which conversation's timers. A hint, never the truth.

One sorted set a partition of the inbox: member `idle CONVERSATION` or `reminder CONVERSATION NAME`,
score the due time in ms. An entry is written before the turn that arms the timer, so that a timer
always has one; an entry without a timer is harmless.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from kefu.events import IDENTIFIER, ReminderDue, SessionIdled, TimerDue
from kefu.keys import IDLE_ENTRY, REMINDER_ENTRY
from kefu.worker.storage.servers import Servers

# KEYS: the index. ARGV: member and score in turn. One that was armed again meanwhile stays.
_REMOVE = """
local removed = 0
for i = 1, #ARGV, 2 do
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or '-1') == tonumber(ARGV[i + 1]) then
    removed = removed + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return removed
"""


class Due(NamedTuple):
    """An entry that is due, as the index has it. `event` is None for one that can't be read."""

    partition: int
    member: bytes
    due: int
    event: Optional[TimerDue]


def read(partition: int, entry: bytes, score: bytes) -> Due:
    """Return an entry with the event that it stands for."""
    due = int(float(score))
    kind, _, rest = entry.decode("utf-8", "replace").partition(" ")
    conversation, _, name = rest.partition(" ")
    tenant, _, user = conversation.partition(":")
    event: Optional[TimerDue] = None
    if IDENTIFIER.fullmatch(tenant) and IDENTIFIER.fullmatch(user):
        if kind == IDLE_ENTRY and not name:
            event = SessionIdled(tenant, user, due)
        elif kind == REMINDER_ENTRY and name:
            event = ReminderDue(tenant, user, name, due)
    return Due(partition, entry, due, event)


class DueIndex:
    """The indexes of all partitions. Every method raises StoreUnavailable when Redis is away."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def due(self, partitions: Sequence[int], now: int, limit: int) -> List[Due]:
        """Return up to `limit` entries a partition that are due at `now` (ms), each partition's oldest first."""

        def command(key: str) -> Tuple[Any, ...]:
            return ("ZRANGE", key, "-inf", now, "BYSCORE", "LIMIT", 0, limit, "WITHSCORES")

        found = await self._servers.on_indexes(dict.fromkeys(partitions, command))
        return [
            read(partition, entry, score)
            for partition, flat in found.items()
            for entry, score in zip(flat[::2], flat[1::2], strict=True)
        ]

    async def remove(self, entries: Sequence[Due]) -> None:
        """Remove entries, but for those that were armed for another time since."""
        scores: Dict[int, List[Any]] = {}
        for entry in entries:
            scores.setdefault(entry.partition, []).extend((entry.member, entry.due))

        def removing(found: List[Any]) -> Callable[[str], Tuple[Any, ...]]:
            return lambda key: ("EVAL", _REMOVE, 1, key, *found)

        await self._servers.on_indexes({partition: removing(found) for partition, found in scores.items()})
