"""A stand-in for the dialogue worker that uses almost no CPU: it stores one reply for each message of `user.query`.

For each message it writes the data that the gateway reads after a worker's write: reply, marker and hint. All messages
of a poll go into one pipeline. Run as a process: `python -m ops.bench.gateway.worker`. With a number as argument it
reads nothing from Kafka, and stores that many replies a second to the customers in turn.
"""

import os
import sys
import time
from typing import Iterator, List, Tuple

import orjson
import redis
from confluent_kafka import Consumer

from kefu.events import USER_QUERY
from kefu.keys import ConversationKeys
from kefu.settings import KafkaSettings, RedisSettings
from ops.bench.gateway.machine import user_name

Said = Tuple[str, str, str]  # tenant, user, message id

_WRITE = """
local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
local reply = '{"seq":' .. seq .. ',"message_id":"' .. ARGV[1] .. '","text":"您的订单已发货，由中通快递配送。","ts":1}'
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 500, seq .. '-0', 'r', reply)
redis.call('SET', KEYS[3], '{"status":"answered","replies":[' .. reply .. ']}', 'EX', 600)
redis.call('SPUBLISH', KEYS[4], ARGV[1])
"""
TICK_S = 0.02  # between two groups of made-up messages


class Replies:
    """Writes replies, many in one round trip."""

    def __init__(self, settings: RedisSettings) -> None:
        self._redis = redis.Redis.from_url(settings.url)
        self._prefix = settings.key_prefix
        self._sha = self._redis.script_load(_WRITE)

    def store(self, said: List[Said]) -> None:
        """Store one reply to each message."""
        pipe = self._redis.pipeline(transaction=False)
        for tenant, user, message_id in said:
            keys = ConversationKeys(self._prefix, f"{tenant}:{user}")
            names = (keys.state, keys.replies, keys.marker(message_id), keys.hint)
            pipe.execute_command("EVALSHA", self._sha, 4, *names, message_id)
        pipe.execute()


def taken(settings: KafkaSettings) -> Iterator[List[Said]]:
    """Yield the messages of each poll of `user.query`, for ever."""
    fetch = {"group.id": "bench", "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50}
    consumer = Consumer({**settings.client_config(), **fetch})
    consumer.subscribe([settings.topic_prefix + USER_QUERY])
    while True:
        records = consumer.consume(256, 0.002)
        polled = [orjson.loads(record.value() or b"") for record in records if not record.error()]
        yield [(said["tenant"], said["user"], said["message_id"]) for said in polled]


def made_up(per_s: float, users: int) -> Iterator[List[Said]]:
    """Yield made-up messages, `per_s` a second, of `users` customers in turn, for ever."""
    sent, began = 0, time.monotonic()
    while True:
        due = int((time.monotonic() - began) * per_s)
        yield [("demo", user_name(n % users), f"m{n}") for n in range(sent, due)]
        sent = due
        time.sleep(TICK_S)


def main() -> None:
    """Store replies until the process is ended."""
    replies = Replies(RedisSettings.from_env())
    rate = float(sys.argv[1]) if len(sys.argv) > 1 else 0
    users = int(os.environ.get("USERS", "1000"))
    for said in made_up(rate, users) if rate else taken(KafkaSettings.from_env()):
        if said:
            replies.store(said)


if __name__ == "__main__":
    main()
