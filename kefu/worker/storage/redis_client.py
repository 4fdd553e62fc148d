"""The worker's connections to Redis (redis-py 4.6): one server, a master behind Sentinels, or a cluster.

Never retries by itself: a call that failed may have happened, and what to do then is for
`kefu.worker.storage.servers` to say.
"""

import asyncio
from typing import Any, Dict, List, Union

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError

from kefu import redis_cluster, redis_url
from kefu.redis_url import Address, RedisUrl
from kefu.settings import RedisSettings

MAX_CONNECTIONS = 64  # to one server; callers keep below it, for beyond it redis-py raises instead of waiting


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


class Single(redis_cluster.One[Redis]):
    """One server."""

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


class BehindSentinels(redis_cluster.One[Redis]):
    """The master of a service; whoever connects asks the Sentinels which server that is."""

    def __init__(self, url: RedisUrl, limits: Dict[str, Any]) -> None:
        timeout_s = limits["socket_connect_timeout"]
        times = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
        self._sentinel = Sentinel(url.hosts, sentinel_kwargs={**times, **url.sentinel})
        for sentinel in self._sentinel.sentinels:
            mended(sentinel)
        super().__init__(mended(self._sentinel.master_for(url.service, **limits, **url.connection)))

    async def close(self) -> None:
        """Close the connections, those to the Sentinels too."""
        await asyncio.gather(self._client.close(), *(sentinel.close() for sentinel in self._sentinel.sentinels))


class Nodes(redis_cluster.Cluster[Redis]):
    """The masters of a cluster."""

    def __init__(self, url: RedisUrl, limits: Dict[str, Any]) -> None:
        super().__init__(url.hosts)
        self._settings = {**limits, **url.connection}

    def open(self, address: Address) -> Redis:
        """Return a client of a node."""
        return mended(Redis(host=address[0], port=address[1], **self._settings))

    async def close_client(self, client: Redis) -> None:
        """Close a node's connections, those in use too: what waits on them is sent again elsewhere."""
        await client.close()
        await client.connection_pool.disconnect(inuse_connections=True)

    async def ask_slots(self, address: Address) -> List[Any]:
        """Ask a node on a connection of its own."""
        timeout_s = self._settings["socket_connect_timeout"]
        client = Redis(host=address[0], port=address[1], **{**self._settings, "socket_timeout": timeout_s})
        try:
            return await client.execute_command("CLUSTER SLOTS")
        finally:
            await client.close()


Masters = Union[Single, BehindSentinels, Nodes]


def connect(settings: RedisSettings) -> Masters:
    """Return the servers that the URL names; nothing is connected before its first use."""
    # No time limit on each answer: `redis_batch` has one on all answers of a batch, which costs less.
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
    return Single(mended(Redis.from_url(settings.url, **limits)))
