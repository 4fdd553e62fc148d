"""The worker's connections to Redis (redis-py 4.6): one server, a master behind Sentinels, or a cluster.

The clients never retry by themselves, because a failed call may have succeeded on the server. The error is handled by
`kefu.worker.storage.servers`.
"""

import asyncio
from typing import Any, Dict, Union

from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError

from kefu import redis_cluster, redis_url
from kefu.redis_cluster import uvloop_safe
from kefu.redis_url import Address, RedisUrl
from kefu.settings import RedisSettings

# Limits the connections to one server. Beyond it redis-py raises an error; `redis_batch` never needs as many.
MAX_CONNECTIONS = 64


class Single(redis_cluster.One[Redis]):
    """A single Redis server, without failover."""

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._client.close(close_connection_pool=True)


class BehindSentinels(redis_cluster.One[Redis]):
    """The master of a Sentinel service. Each new connection asks the Sentinels for the master's address."""

    def __init__(self, url: RedisUrl, limits: Dict[str, Any]) -> None:
        timeout_s = limits["socket_connect_timeout"]
        times = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        self._sentinel = Sentinel(url.hosts, sentinel_kwargs={**times, **url.sentinel})
        for sentinel in self._sentinel.sentinels:
            uvloop_safe(sentinel, ConnectionError)
        options = {**limits, **url.connection}
        super().__init__(uvloop_safe(self._sentinel.master_for(url.service, **options), ConnectionError))

    async def close(self) -> None:
        """Close the connections, including those to the Sentinels."""
        clients = [self._client, *self._sentinel.sentinels]
        await asyncio.gather(*(client.close(close_connection_pool=True) for client in clients))


class Nodes(redis_cluster.Cluster[Redis]):
    """The masters of a Redis Cluster."""

    def __init__(self, url: RedisUrl, limits: Dict[str, Any]) -> None:
        super().__init__(url.hosts, limits["socket_connect_timeout"])
        self._options = {**limits, **url.connection}

    def open(self, address: Address) -> Redis:
        """Return a client of the cluster's node at this address."""
        return _client(self._options, host=address[0], port=address[1])

    async def close_client(self, client: Redis) -> None:
        """Close the connections to a node, including those in use. Their callers get an error and try another node."""
        await client.close(close_connection_pool=True)


Masters = Union[Single, BehindSentinels, Nodes]


def connect(settings: RedisSettings) -> Masters:
    """Return the clients of the servers that REDIS_URL names. A connection is opened at its first use."""
    # No time limit per answer: `redis_batch` limits all answers of a batch together, which costs less.
    limits = {
        "socket_connect_timeout": settings.timeout_s,
        "health_check_interval": 15,
        "max_connections": MAX_CONNECTIONS,
    }
    url = redis_url.parse(settings.url)
    if url.kind == "sentinel":
        return BehindSentinels(url, limits)
    if url.kind == "cluster":
        return Nodes(url, limits)
    return Single(_client({**limits, **url.connection}, **url.place))


def _client(options: Dict[str, Any], **place: Any) -> Redis:
    """Return a client of the server at `host` and `port`, or at the `path` of a socket."""
    rest = {name: value for name, value in options.items() if name != "ssl"}
    network = SSLConnection if "ssl" in options else Connection
    kind = UnixDomainSocketConnection if "path" in place else network
    return uvloop_safe(Redis(connection_pool=ConnectionPool(connection_class=kind, **place, **rest)), ConnectionError)
