"""The system under test: its servers in one of three forms, and doors between its parts.

In: a form and a directory. Out: a running `System`, which says which parts are healthy.
"""

import sqlite3
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from ops.chaos.doors import Doors
from ops.local.clusters import KafkaCluster, RedisCluster, RedisSentinels
from ops.local.servers import HOST
from ops.local.stack import PATIENCE, Stack, free_ports

SINGLE = "single"  # one broker, one Redis
SENTINEL = "sentinel"  # three brokers, a Redis master with a replica and three Sentinels
CLUSTER = "cluster"  # three brokers, a Redis cluster of six
FORMS = (SENTINEL, CLUSTER, SINGLE)
MAX_WORKERS = 4  # with this many workers a rebalance removes one
READY_S = 180.0  # longest wait until the second worker and the second gateway are ready

SETTINGS = {"KEFU_USER_RATE": "0", "KEFU_SESSION_RATE": "0", "KEFU_HEARTBEAT_S": "5", **PATIENCE}

# Names of doors.
REDIS = "redis"  # one door for each server; all processes use them, but in the form `single` only the worker
REDIS_OF_GATEWAY = "redis-of-gateway"
ACTIONS = "actions"


class System:
    """Two gateways, two workers and their servers, with doors before Redis and the action server."""

    def __init__(self, form: str, directory: Path, tell: Any = print) -> None:
        self.form = form
        self.doors = Doors()
        ports = free_ports()
        self._redis = self._redis_group(directory / "redis")
        to_actions = self.doors.to(ACTIONS, ports["KEFU_ACTION_PORT"])
        self.stack = Stack(
            directory,
            ports,
            tell=tell,
            overrides=self._settings(),
            kafka=None if form == SINGLE else KafkaCluster(directory / "kafka"),
            redis=self._redis,
            own_settings={
                "worker": {"ACTION_ENDPOINT_URL": f"http://{HOST}:{to_actions}/webhook", **self._through(ports, REDIS)},
                "gateway": self._through(ports, REDIS_OF_GATEWAY),
            },
        )
        self.workers = ["worker"]
        self.gateways = ["gateway"]

    def start(self) -> None:
        """Start all servers and processes, with a second worker and a second gateway."""
        self.stack.start()
        self.workers.append(self.stack.add_worker())
        self.gateways.append(self.stack.add_gateway())
        for name in (self.workers[1], self.gateways[1]):
            self.stack.wait_ready(name, READY_S)

    def stop(self) -> None:
        """Stop all processes, servers and doors."""
        self.stack.stop()
        self.doors.close()

    @property
    def addresses(self) -> List[str]:
        """URLs of the gateways."""
        return [self.stack.url(name) for name in self.gateways]

    def brokers_whole(self) -> bool:
        """Return whether all brokers are up and every partition is in sync on all of them."""
        try:
            topics = AdminClient({"bootstrap.servers": self.stack.kafka.brokers, "log_level": 0}).list_topics(timeout=3)
        except KafkaException:
            return False
        size = len(self.stack.kafka.servers)
        parts = [part for topic in topics.topics.values() for part in topic.partitions.values()]
        return bool(parts) and len(topics.brokers) == size and all(len(part.isrs) == size for part in parts)

    def redis_whole(self) -> bool:
        """Return whether Redis answers, and all of its replicas are connected."""
        return self.stack.redis.ready() if self._redis is None else self._redis.whole()

    def redis_masters(self) -> List[str]:
        """Return the names of the masters' processes."""
        return ["redis"] if self._redis is None else [member.name for member in self._redis.masters()]

    def door_of(self, master: str) -> Tuple[str, int]:
        """Return name and number of the door in front of a Redis master."""
        if self._redis is None:
            return REDIS, 0
        return REDIS, [member.name for member in self._redis.members].index(master)

    def shop_rows(self, query: str) -> List[Any]:
        """Return the rows of a query on the shop's database."""
        with sqlite3.connect(f"file:{self.stack.shop_database}?mode=ro", uri=True) as database:
            return database.execute(query).fetchall()

    def _redis_group(self, directory: Path) -> Union[RedisSentinels, RedisCluster, None]:
        if self.form == SINGLE:
            return None
        if self.form == SENTINEL:
            # One replica: with more, WAIT 1 is not enough (ops/decisions/0005).
            return RedisSentinels(directory, 1, door=lambda port: self.doors.to(REDIS, port))
        return RedisCluster(directory, door=lambda port: self.doors.to(REDIS, port))

    def _through(self, ports: Dict[str, int], door: str) -> Dict[str, str]:
        """Return the REDIS_URL that leads to the single Redis through a door; no setting in the other forms."""
        if self.form != SINGLE:
            return {}
        return {"REDIS_URL": f"redis://{HOST}:{self.doors.to(door, ports['KEFU_REDIS_PORT'])}/0"}

    def _settings(self) -> Dict[str, str]:
        replicas = {} if self.form == SINGLE else {"KEFU_REDIS_WAIT_REPLICAS": "1"}
        return {**SETTINGS, **replicas}
