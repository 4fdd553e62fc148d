"""Finds the master of a Redis cluster that holds a conversation, for gateway and worker.

In: a key. Out: the client of the master that holds it. All keys of a conversation share a slot, so a conversation needs
only a plain client. redis-py's own cluster client does not serve: it pipelines no script, does not keep WAIT on the
connection of the write, and knows no sharded channels in version 4.6.

This module imports no redis-py: gateway and worker have different versions of it.
"""

import asyncio
import binascii
import time
from abc import ABC, abstractmethod
from typing import Any, Dict, Generic, List, Optional, Sequence, Set, Type, TypeVar, Union

from kefu.errors import StoreUnavailable
from kefu.redis_url import Address

SLOTS = 16384  # of every Redis Cluster. Source: Redis cluster specification
ASK_AGAIN_S = 0.2  # shortest time between two requests for the slot map, so that a failover causes no flood of requests

Client = TypeVar("Client", bound=Any)
Key = Union[str, bytes]


def slot_of(key: Key) -> int:
    """Return the slot of a key, by its hash tag. Source: Redis cluster specification, key distribution."""
    name = key.encode() if isinstance(key, str) else key
    opened = name.find(b"{")
    closed = name.find(b"}", opened + 1) if opened >= 0 else -1
    tagged = name[opened + 1 : closed] if closed > opened + 1 else name
    return binascii.crc_hqx(tagged, 0) % SLOTS


class Cluster(ABC, Generic[Client]):
    """The clients of a cluster's masters, chosen by the slot map: which master holds which slots.

    The map is the last answer of a node to CLUSTER SLOTS. After `doubt` it is fetched again.

    Args:
        seeds: any nodes of the cluster, asked first.
        timeout_s: longest time for a node to accept a connection, and again for its answer.

    Attributes:
        version: the number of the slot map; it rises by 1 each time that the map is fetched.
    """

    def __init__(self, seeds: Sequence[Address], timeout_s: float) -> None:
        self._seeds = list(seeds)
        self._timeout_s = timeout_s
        self._known: List[Address] = []
        self._slots: List[Optional[Address]] = [None] * SLOTS
        self._clients: Dict[Address, Client] = {}
        self.version = 0
        self._doubtful = True
        self._asking = asyncio.Lock()
        self._asked = -ASK_AGAIN_S

    @abstractmethod
    def open(self, address: Address) -> Client:
        """Return a client of a node; it connects at first use."""

    @abstractmethod
    async def close_client(self, client: Client) -> None:
        """Close a node's client, even while it is used."""

    async def holding(self, key: Key) -> Client:
        """Return the client of the master that holds a key; raises StoreUnavailable when none does."""
        await self._refresh_if_doubtful()
        client = self.holder(key)
        if client is None:
            self._doubtful = True
            raise StoreUnavailable("no master for the slot")
        return client

    def holder(self, key: Key) -> Optional[Client]:
        """Return the client of the master that holds a key by the last slot map, None if the map names no master.

        Never asks a node for a new map.
        """
        address = self._slots[slot_of(key)]
        return None if address is None else self._clients[address]

    def known(self, key: Key) -> Optional[Client]:
        """Return the client that `holder` returns; None while the slot map is in doubt: then use `holding`."""
        return None if self._doubtful else self.holder(key)

    async def masters(self) -> List[Client]:
        """Return the clients of all masters; raises StoreUnavailable when a slot has none."""
        await self._refresh_if_doubtful()
        if None in self._slots:
            self._doubtful = True
            raise StoreUnavailable("a slot without master")
        return list(self._clients.values())

    def doubt(self) -> None:
        """Have the slot map fetched again before the next call, because a node failed or redirected a command."""
        self._doubtful = True

    async def close(self) -> None:
        """Close the clients of all nodes."""
        clients, self._clients = list(self._clients.values()), {}
        self._slots = [None] * SLOTS
        for client in clients:
            await self.close_client(client)

    async def _refresh_if_doubtful(self) -> None:
        if not self._doubtful:
            return
        async with self._asking:
            if not self._doubtful or time.monotonic() - self._asked < ASK_AGAIN_S:
                return
            try:
                await self._refresh()
            finally:
                self._asked = time.monotonic()
            self._doubtful = False

    async def _refresh(self) -> None:
        """Ask one node after another for the slot map. The node that answers is asked last the next time."""
        cause: Optional[BaseException] = None
        for address in [*self._known, *(seed for seed in self._seeds if seed not in self._known)]:
            try:
                answer = await self._ask_slots(address)
            except Exception as error:  # noqa: BLE001 - redis-py's versions have different classes; the last is raised
                cause = error
                continue
            await self._learn(address, answer)
            return
        raise StoreUnavailable("no node of the cluster answers") from cause

    async def _ask_slots(self, address: Address) -> List[Any]:
        """Return a node's answer to CLUSTER SLOTS; opens a connection for this command only."""
        client = self.open(address)
        try:
            return await asyncio.wait_for(client.execute_command("CLUSTER SLOTS"), 2 * self._timeout_s)
        finally:
            await self.close_client(client)

    async def _learn(self, asked: Address, answer: List[Any]) -> None:
        """Take over the slot map in a node's answer: open clients of new masters, close those of former masters."""
        slots: List[Optional[Address]] = [None] * SLOTS
        masters: Set[Address] = set()
        nodes: List[Address] = []
        for first, last, *members in answer:
            addresses = [_address(member, asked) for member in members]
            masters.add(addresses[0])
            nodes += [address for address in addresses if address not in nodes]
            slots[int(first) : int(last) + 1] = [addresses[0]] * (int(last) - int(first) + 1)
        gone = [self._clients.pop(address) for address in list(self._clients) if address not in masters]
        for address in masters - self._clients.keys():
            self._clients[address] = self.open(address)
        self._slots = slots
        self.version += 1
        self._known = [node for node in nodes if node != asked] + [asked]
        for client in gone:
            await self.close_client(client)


def _address(member: Sequence[Any], asked: Address) -> Address:
    """Return a node's address; a node that doesn't know its own host has the host at which it was asked."""
    host = member[0].decode() if isinstance(member[0], bytes) else member[0]
    return (host if host and host != "?" else asked[0], int(member[1]))


class UvloopSafe:
    """Mixin that makes redis-py's connections handle a lost connection on uvloop.

    With uvloop, a write to a closed transport raises RuntimeError, which redis-py does not handle.

    Attributes:
        lost: redis-py's error for a lost connection, which is raised instead of RuntimeError.
    """

    lost: Type[Exception]

    async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
        """Send a packed command. Raises `lost` when the connection is closed."""
        try:
            await super().send_packed_command(*arguments, **options)  # type: ignore[misc]
        except RuntimeError as error:
            raise self.lost("lost while it was written to") from error


def uvloop_safe(client: Client, lost: Type[Exception]) -> Client:
    """Make the client's new connections `UvloopSafe`; return the client."""
    pool = client.connection_pool
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (UvloopSafe, kind), {"lost": lost})
    return client


class One(Generic[Client]):
    """A single master, or the master that Sentinels name: one client for every key, and no slot map."""

    version = 0

    def __init__(self, client: Client) -> None:
        self._client = client

    async def holding(self, key: Key) -> Client:
        """Return the only client, because one server holds every key."""
        return self._client

    def holder(self, key: Key) -> Optional[Client]:
        """Return the only client, because one server holds every key."""
        return self._client

    def known(self, key: Key) -> Optional[Client]:
        """Return the only client: there is no slot map that could be in doubt."""
        return self._client

    async def masters(self) -> List[Client]:
        """Return a list of the only client."""
        return [self._client]

    def doubt(self) -> None:
        """Do nothing, because redis-py asks the Sentinels for the master each time that it connects."""
