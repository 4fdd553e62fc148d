"""The index of due times in Redis: when to look at a conversation's timers. It is a hint, never the truth.

Each partition of the inbox has one sorted set. A member is `idle CONVERSATION` or `reminder CONVERSATION NAME`, its
score the due time in ms. An entry is written before the turn that arms the timer is stored, so that every timer has an
entry. An entry without a timer is harmless.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from kefu.events import IDENTIFIER, ReminderDue, SessionIdled, TimerDue
from kefu.keys import IDLE_ENTRY, REMINDER_ENTRY
from kefu.worker.storage.servers import Servers

# KEYS: the index. ARGV: members and scores, alternating. A member whose score has changed since was armed again: it
# stays.
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
    """A due entry of the index. `event` is None if the entry can't be read."""

    partition: int
    member: bytes
    due: int
    event: Optional[TimerDue]


def read(partition: int, entry: bytes, score: bytes) -> Due:
    """Return an entry of the index with the event that it stands for.

    Args:
        partition: of the index.
        entry: the member of the sorted set.
        score: its due time in ms, as Redis returns it.
    """
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
    """The indexes of all partitions. Every method raises StoreUnavailable if Redis is away."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    async def due(self, partitions: Sequence[int], now: int, limit: int) -> List[Due]:
        """Return up to `limit` entries per partition that are due at `now` (ms), each partition's oldest first."""

        def command(key: str) -> Tuple[Any, ...]:
            return ("ZRANGE", key, "-inf", now, "BYSCORE", "LIMIT", 0, limit, "WITHSCORES")

        answers = await self._servers.on_indexes(dict.fromkeys(partitions, command))
        return [
            read(partition, entry, score)
            for partition, flat in answers.items()
            for entry, score in zip(flat[::2], flat[1::2], strict=True)
        ]

    async def remove(self, entries: Sequence[Due]) -> None:
        """Remove entries, except those that were armed for another time since."""
        scores: Dict[int, List[Any]] = {}
        for entry in entries:
            scores.setdefault(entry.partition, []).extend((entry.member, entry.due))

        def removal(arguments: List[Any]) -> Callable[[str], Tuple[Any, ...]]:
            return lambda key: ("EVAL", _REMOVE, 1, key, *arguments)

        await self._servers.on_indexes({partition: removal(arguments) for partition, arguments in scores.items()})
