"""The gateway's connections to Redis (redis-py 8.1): one server, a master behind Sentinels, or a cluster.

Reads go to masters only: a replica may not know yet what a customer has been told.
"""

from typing import Any, Dict, List, Type, Union

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError

from kefu import redis_cluster, redis_url
from kefu.redis_url import Address, RedisUrl
from kefu.settings import RedisSettings

MAX_CONNECTIONS = 64  # to one server


class Mended:
    """What redis-py's connections lack on uvloop: a connection that is lost while it is written to says so."""

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        """Send. Raises ConnectionError also where uvloop has closed the transport: it raises RuntimeError then."""
        try:
            await super().send_packed_command(*arguments, **options)  # type: ignore[misc]
        except RuntimeError as error:
            raise ConnectionError("lost while it was written to") from error


def mended(client: Redis) -> Redis:
    """Return the client, whose connections are `Mended` from now on."""
    pool = client.connection_pool
    pool.connection_class = type(pool.connection_class.__name__, (Mended, pool.connection_class), {})
    return client


class SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """A bounded pool of connections to the master: who finds none free waits."""


class Single(redis_cluster.One[Redis]):
    """One server."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose(close_connection_pool=True)


class BehindSentinels(redis_cluster.One[Redis]):
    """The master of a service; whoever connects asks the Sentinels which server that is."""

    def __init__(self, url: RedisUrl, limits: Dict[str, Any]) -> None:
        times = {name: value for name, value in limits.items() if name.startswith("socket_")}
        self._sentinel = Sentinel(url.hosts, sentinel_kwargs={**times, **url.sentinel})
        master = self._sentinel.master_for(url.service, connection_pool_class=SentinelPool, **limits, **url.connection)
        for sentinel in self._sentinel.sentinels:
            mended(sentinel)
        super().__init__(mended(master))

    async def close(self) -> None:
        """Close the connections, those to the Sentinels too."""
        await self._client.aclose(close_connection_pool=True)
        await self._sentinel.aclose()


class Nodes(redis_cluster.Cluster[Redis]):
    """The masters of a cluster."""

    def __init__(self, url: RedisUrl, limits: Dict[str, Any]) -> None:
        super().__init__(url.hosts)
        self._limits = limits
        self._connection = dict(url.connection)
        self._class: Type[Connection] = SSLConnection if self._connection.pop("ssl", False) else Connection

    def open(self, address: Address) -> Redis:
        """Return a client of a node."""
        pool = BlockingConnectionPool(
            connection_class=self._class, host=address[0], port=address[1], **self._limits, **self._connection
        )
        return mended(Redis.from_pool(pool))

    async def close_client(self, client: Redis) -> None:
        """Close a node's connections."""
        await client.aclose(close_connection_pool=True)

    async def ask_slots(self, address: Address) -> List[Any]:
        """Ask a node on a connection of its own."""
        client = self.open(address)
        try:
            return await client.execute_command("CLUSTER SLOTS")
        finally:
            await client.aclose(close_connection_pool=True)


Servers = Union[Single, BehindSentinels, Nodes]


def connect(settings: RedisSettings, retries: int = 1, connections: int = MAX_CONNECTIONS) -> Servers:
    """Return the servers that the URL names; nothing is connected before its first use.

    Args:
        settings: the URL and the longest time of a call.
        retries: one by default, for after a restart of Redis pooled connections are dead.
        connections: most connections to one server.
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
    return Single(mended(Redis.from_pool(BlockingConnectionPool.from_url(settings.url, **limits))))
