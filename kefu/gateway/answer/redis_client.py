"""The gateway's connections to Redis (redis-py 8.1): one server, a master behind Sentinels, or a cluster.

Reads go to masters only: a replica may lack a reply that the customer has already seen.
"""

from typing import Any, Dict, Union

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError

from kefu import redis_cluster, redis_url
from kefu.redis_cluster import uvloop_safe
from kefu.redis_url import Address, RedisUrl
from kefu.settings import RedisSettings

MAX_CONNECTIONS = 64  # limits the connections to one server; a read beyond it waits for a free one


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """A bounded pool of connections to the master; a caller waits while none is free."""


class Single(redis_cluster.One[Redis]):
    """A single Redis server, without failover."""

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._client.aclose(close_connection_pool=True)


class BehindSentinels(redis_cluster.One[Redis]):
    """The master of a Sentinel service. Each new connection asks the Sentinels for the master's address."""

    def __init__(self, url: RedisUrl, limits: Dict[str, Any]) -> None:
        times = {name: value for name, value in limits.items() if name.startswith("socket_")}
        self._sentinel = Sentinel(url.hosts, sentinel_kwargs={**times, **url.sentinel})
        options = {**limits, **url.connection}
        master = self._sentinel.master_for(url.service, connection_pool_class=SentinelPool, **options)
        for sentinel in self._sentinel.sentinels:
            uvloop_safe(sentinel, ConnectionError)
        super().__init__(uvloop_safe(master, ConnectionError))

    async def close(self) -> None:
        """Close the connections to the master and to the Sentinels."""
        await self._client.aclose(close_connection_pool=True)
        await self._sentinel.aclose()


class Nodes(redis_cluster.Cluster[Redis]):
    """The masters of a Redis Cluster."""

    def __init__(self, url: RedisUrl, limits: Dict[str, Any]) -> None:
        super().__init__(url.hosts, limits["socket_timeout"])
        self._options = {**limits, **url.connection}

    def open(self, address: Address) -> Redis:
        """Return a client of the cluster's node at this address."""
        return _client(self._options, host=address[0], port=address[1])

    async def close_client(self, client: Redis) -> None:
        """Close the connections to a node."""
        await client.aclose(close_connection_pool=True)


Servers = Union[Single, BehindSentinels, Nodes]


def connect(settings: RedisSettings, retries: int = 1, connections: int = MAX_CONNECTIONS) -> Servers:
    """Return the clients of the servers that REDIS_URL names. A connection is opened at its first use.

    Args:
        settings: the URL and the longest time of a call.
        retries: attempts after a failed one. One by default: pooled connections are dead after a restart of Redis.
        connections: limits the connections to one server; a call beyond it waits for a free one.
    """
    limits = {
        "max_connections": connections,
        "timeout": settings.timeout_s,
        "socket_timeout": settings.timeout_s,
        "socket_connect_timeout": settings.timeout_s,
        "retry": Retry(NoBackoff(), retries),
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
    return uvloop_safe(Redis.from_pool(BlockingConnectionPool(connection_class=kind, **place, **rest)), ConnectionError)
