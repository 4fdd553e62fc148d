"""The index of a tenant's hand-overs in Redis: where the desk looks for conversations. A hint, never the truth.

An entry is written ahead of the turn that leaves a hand-over, so that each has one; what an entry stands for is
told by the conversation's state. One is removed after the turn that ended the hand-over, if no newer one came
since, and at the latest when the conversation would have expired.
"""

from typing import Any, List, Tuple

from kefu.events import now_ms
from kefu.keys import desk_index
from kefu.settings import CONVERSATION_LIFETIME_S

Commands = List[Tuple[Any, ...]]

# KEYS: the index. ARGV: user, time in ms. An entry written since stays: it is another hand-over's.
_REMOVE = """
local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
if score > 0 and score <= tonumber(ARGV[2]) then return redis.call('ZREM', KEYS[1], ARGV[1]) end
return 0
"""


def entering(prefix: str, conversation: str) -> Tuple[str, Commands]:
    """Return the index of a conversation's tenant, and what enters the conversation there."""
    tenant, _, user = conversation.partition(":")
    key, now = desk_index(prefix, tenant), now_ms()
    gone = now - CONVERSATION_LIFETIME_S * 1000
    return key, [
        ("ZADD", key, now, user),
        ("ZREMRANGEBYSCORE", key, "-inf", gone),
        ("EXPIRE", key, CONVERSATION_LIFETIME_S),
    ]


def leaving(prefix: str, conversation: str) -> Tuple[str, Commands]:
    """Return the index of a conversation's tenant, and what removes the conversation there."""
    tenant, _, user = conversation.partition(":")
    key = desk_index(prefix, tenant)
    return key, [("EVAL", _REMOVE, 1, key, user, now_ms())]
