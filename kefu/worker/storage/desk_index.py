"""The index of a tenant's hand-overs in Redis, where the desk looks for conversations. It is a hint, never the truth.

An entry is written before the turn that leaves a hand-over is stored, so that every hand-over has one. The
conversation's state says whether the hand-over stands. The entry is removed after the turn that ended the hand-over,
unless a newer one was entered since, and at the latest when the conversation would have expired.
"""

from typing import Any, List, Tuple

from kefu.events import now_ms
from kefu.keys import desk_index
from kefu.settings import CONVERSATION_LIFETIME_S

Commands = List[Tuple[Any, ...]]

# KEYS: the index. ARGV: user, time in ms. An entry written after this time stays, since it is a newer hand-over's.
_REMOVE = """
local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
if score > 0 and score <= tonumber(ARGV[2]) then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0
"""


def entering(prefix: str, conversation: str) -> Tuple[str, Commands]:
    """Return the key of the tenant's index, and the commands that enter the conversation."""
    tenant, _, user = conversation.partition(":")
    key, now = desk_index(prefix, tenant), now_ms()
    gone = now - CONVERSATION_LIFETIME_S * 1000
    return key, [
        ("ZADD", key, now, user),
        ("ZREMRANGEBYSCORE", key, "-inf", gone),
        ("EXPIRE", key, CONVERSATION_LIFETIME_S),
    ]


def leaving(prefix: str, conversation: str) -> Tuple[str, Commands]:
    """Return the key of the tenant's index, and the commands that remove the conversation."""
    tenant, _, user = conversation.partition(":")
    key = desk_index(prefix, tenant)
    return key, [("EVAL", _REMOVE, 1, key, user, now_ms())]
