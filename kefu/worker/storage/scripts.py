"""The Lua scripts of the store: each is one atomic step on the keys of one conversation."""

import hashlib


class Script:
    """A Lua script, known to a server by its digest once it has run there."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# KEYS: state, turns, replies, marker, hint. ARGV: expected version, turn's record ("" for none),
# marker, message id, last seq, snapshot ("" for none), turns to keep, lifetime of the conversation
# and of the marker in s, replies to keep, hand-over ("" for unchanged, "-" for none), then each reply's seq and JSON.
WRITE = Script(
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
# KEYS: state, turns. One script, so that no write comes between the reads of version, turns and history.
READ = Script(
    """
local state = redis.call('HMGET', KEYS[1], 'version', 'seq', 'snapshot')
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
return {state[1], state[2], state[3], redis.call('LRANGE', KEYS[2], 0, -1), history}
"""
)
# KEYS: marker, turns. One script, because a failover between the two reads could return a marker without its turn.
READ_TURN = Script("return {redis.call('GET', KEYS[1]), redis.call('LRANGE', KEYS[2], -128, -1)}")
# KEYS: state. ARGV: new version and seq, lifetime in s. Never lowers the stored version or seq.
SKIP = Script(
    """
local state = redis.call('HMGET', KEYS[1], 'version', 'seq')
if tonumber(state[1] or '0') >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'seq', math.max(tonumber(state[2] or '0'), tonumber(ARGV[2])))
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
)
