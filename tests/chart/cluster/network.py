"""Addresses, Services and NetworkPolicy of the cluster: which connections are allowed, and which were made."""

import asyncio
import contextlib
import os
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.waiting import until

Manifest = dict[str, Any]
CHUNK_BYTES = 64 * 1024
ESTABLISHED, LISTENING = "01", "0A"  # Source: the kernel's include/net/tcp_states.h


@dataclass(frozen=True)
class Identity:
    """One end of a connection, as a policy sees it: usually a pod."""

    name: str
    labels: dict[str, str] = field(hash=False)
    namespace: str
    ports: dict[str, int] = field(default_factory=dict, hash=False)  # number by name


class Policies:
    """The NetworkPolicies of one namespace. Source: Kubernetes, Network Policies."""

    def __init__(self, manifests: list[Manifest], namespace: str) -> None:
        self._specs = [each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"]
        self._namespace = namespace

    def allow(self, source: Identity, target: Identity, port: int) -> bool:
        """Return whether both ends' policies let the connection through."""
        return self._end(source, target, target, port, "Egress") and self._end(target, source, target, port, "Ingress")

    def _end(self, own: Identity, other: Identity, target: Identity, port: int, direction: str) -> bool:
        specs = [spec for spec in self._specs if direction in spec["policyTypes"] and self._selects(spec, own)]
        if not specs:
            return True
        rules = [rule for spec in specs for rule in spec.get(direction.lower()) or []]
        side = {"Egress": "to", "Ingress": "from"}[direction]
        return any(self._peers(rule.get(side), other) and _ports(rule.get("ports"), target, port) for rule in rules)

    def _selects(self, spec: Manifest, pod: Identity) -> bool:
        return pod.namespace == self._namespace and _matches(spec["podSelector"], pod.labels)

    def _peers(self, peers: list[Manifest] | None, pod: Identity) -> bool:
        return peers is None or any(self._peer(peer, pod) for peer in peers)

    def _peer(self, peer: Manifest, pod: Identity) -> bool:
        if "ipBlock" in peer:
            return False  # an address block means hosts outside of the cluster, and here are none
        inside = pod.namespace == self._namespace
        if "namespaceSelector" in peer:
            inside = _matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": pod.namespace})
        return inside and _matches(peer.get("podSelector", {}), pod.labels)


def _matches(selector: Manifest, labels: dict[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()


def _ports(ports: list[Manifest] | None, target: Identity, port: int) -> bool:
    return ports is None or any(target.ports.get(each["port"], each["port"]) == port for each in ports)


class Network:
    """Loopback addresses of this process's cluster, and a forwarder for each port of each Service.

    Args:
        who: returns the pod that a process id belongs to, or None.
    """

    def __init__(self, who: Callable[[int], Identity | None]) -> None:
        self._who = who
        self._subnet = f"127.{random.randint(16, 250)}.{random.randint(1, 250)}"
        self._next = 1
        self.services: dict[str, str] = {}  # address by name
        self.connections: Counter[tuple[str, str, int]] = Counter()  # source, target and port
        self.refused: Counter[tuple[str, str, int]] = Counter()
        self.pids: Callable[[], list[int]] = list
        self.policies: Policies | None = None
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="network", daemon=True).start()

    def address(self) -> str:
        """Return an address that nothing else has."""
        self._next += 1
        return f"{self._subnet}.{self._next}"

    def serve(self, name: str, port: int, endpoints: Callable[[], list[tuple[Identity, str, int]]]) -> None:
        """Forward connections to a Service's port to one of its ready pods."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.CancelledError):  # by `stop`; asyncio's streams would log the error
                await self._forward(reader, writer, endpoints)

        async def listen() -> None:
            await asyncio.start_server(accept, self.services[name], port)

        asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10)

    def decision(self, name: str, deadline_s: float) -> bool:
        """Wait for the one connection of a caller, forget it, and return whether it was allowed."""

        def decided() -> tuple[dict, tuple, bool] | None:
            outcomes = ((self.connections, True), (self.refused, False))
            return next(
                ((counts, each, allowed) for counts, allowed in outcomes for each in list(counts) if each[0] == name),
                None,
            )

        counts, each, allowed = until(decided, f"{name} to connect to a Service", deadline_s)
        del counts[each]
        return allowed

    def stop(self) -> None:
        """Drop every connection and listen no more."""
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        endpoints: Callable[[], list[tuple[Identity, str, int]]],
    ) -> None:
        ends = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        source = await asyncio.to_thread(self._source, *ends)
        # In a thread: `endpoints` waits for a lock that `apply` holds while it waits for this loop.
        ready = await asyncio.to_thread(endpoints)
        with contextlib.closing(writer):
            if source is None or not ready:
                return
            target, address, number = random.choice(ready)
            if self.policies is not None and not self.policies.allow(source, target, number):
                self.refused[source.name, target.name, number] += 1
                return
            self.connections[source.name, target.name, number] += 1
            try:
                back_reader, back_writer = await asyncio.open_connection(address, number)
            except OSError:
                return
            with contextlib.closing(back_writer):
                # Each direction ends by itself: a client that has sent everything may still read.
                await asyncio.gather(_pump(reader, back_writer), _pump(back_reader, writer))

    def _source(self, peer: tuple[str, int], own: tuple[str, int]) -> Identity | None:
        inode = _inode(peer, own)
        for pid in self.pids():
            if inode and inode in sockets_of(pid):
                return self._who(pid)
        return None


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:  # one end is gone: abort the other, which also ends the other direction's reader
        writer.transport.abort()


def connections() -> list[list[str]]:
    """Return the columns of each connection that a process of this machine has. Source: proc_net_tcp(5)."""
    rows = []
    for version in ("tcp", "tcp6"):
        with open(f"/proc/net/{version}") as table:
            next(table)
            rows += [row for row in map(str.split, table) if row[9] != "0"]  # inode 0: a closed connection in TIME_WAIT
    return rows


def _place(column: str) -> str:
    """Return `address:port` of a column of the table. An IPv6 address is taken as IPv4-mapped, as Java uses it."""
    address = column.partition(":")[0]
    return f"{socket.inet_ntoa(bytes.fromhex(address[-8:])[::-1])}:{_port(column)}"


def _port(column: str) -> int:
    return int(column.rpartition(":")[2], 16)


def outgoing(sockets: Collection[str], rows: Iterable[list[str]], served: Collection[int] = ()) -> list[str]:
    """Return the targets of the connections that a process has opened, as `address:port`.

    Args:
        sockets: the process's sockets, from `sockets_of`.
        rows: the rows of `connections`, read after the sockets.
        served: ports at which the process accepts connections. A stopping process closes its listener before its
            connections: without the listener, the rows alone don't tell which side opened a connection.
    """
    rows = [row for row in rows if row[9] in sockets]
    accepting = {_port(row[1]) for row in rows if row[3] == LISTENING} | set(served)
    return [_place(row[2]) for row in rows if row[3] == ESTABLISHED and _port(row[1]) not in accepting]


def _inode(local: tuple[str, int], remote: tuple[str, int]) -> str:
    """Return the inode of the connection from `local` to `remote`. `local` may also have connections elsewhere."""
    ends = [_column(local), _column(remote)]
    return next((row[9] for row in connections() if row[1:3] == ends), "")


def _column(place: tuple[str, int]) -> str:
    return f"{socket.inet_aton(place[0])[::-1].hex().upper()}:{place[1]:04X}"


def sockets_of(pid: int) -> set[str]:
    """Return the inodes of a process's sockets; none if the process has ended."""
    inodes = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    return inodes
