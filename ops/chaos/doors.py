"""A TCP proxy that injects faults. A door is one proxied port: it can cut connections, hold them, or drop the answers.

All doors of a process run in one thread with its own event loop, so that their timing does not depend on how busy the
process is.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Any, Awaitable, Callable, Dict, List, Optional, Set, Tuple

from ops.local.servers import HOST, free_port

CHUNK = 64 * 1024  # most bytes that are forwarded at a time
# The faults of a door. Source of RST at a close: socket(7), SO_LINGER with time 0.
CUT = "cut"  # ends all connections at once, with RST
HELD = "held"  # passes no data, then ends the connections, like a network that hangs
MUTE = "mute"  # passes requests, drops answers, then ends the connections: the client can't know the outcome
SHUT = "shut"  # ends all connections, and new ones at once
STYLES = (CUT, HELD, MUTE, SHUT)
RESET = struct.pack("ii", 1, 0)


class Door:
    """A port that forwards to another port of loopback, and can disturb the connections."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.style = ""
        self._target = target
        self._passing = asyncio.Event()
        self._passing.set()
        self._writers: Set[asyncio.StreamWriter] = set()
        self._server: Optional[asyncio.Server] = None

    async def open(self) -> None:
        """Listen on the port."""
        self._server = await asyncio.start_server(self._enter, HOST, self.port)

    async def close(self) -> None:
        """Stop listening and end all connections."""
        if self._server:
            self._server.close()
        self.reset()

    async def begin(self, style: str) -> None:
        """Begin a fault, which is one of STYLES, on all connections of this door."""
        self.style = style
        if style == HELD:
            self._passing.clear()
        if style in (CUT, SHUT):
            self.reset()

    async def end(self, after_s: float) -> None:
        """End the fault after `after_s`. The connections that it affected are closed then."""
        try:
            await asyncio.sleep(after_s)
        finally:
            self.style = ""
            self.reset()
            self._passing.set()

    def reset(self) -> None:
        """End all connections with RST."""
        for writer in list(self._writers):
            connection: Optional[socket.socket] = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                if connection is not None:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        self._writers.clear()

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection: open one to the target, and forward data in both directions."""
        ends = [writer]
        self._writers.add(writer)
        try:
            if self.style != SHUT:
                answers, there = await asyncio.open_connection(HOST, self._target)
                ends.append(there)
                self._writers.add(there)
                await asyncio.gather(self._pass(reader, there, False), self._pass(answers, writer, True))
        except OSError:
            pass  # one side has closed, or the target is down: closing the connection tells the other side
        finally:
            for end in ends:
                self._writers.discard(end)
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        """Forward the data of one direction; `answers` says whether it is that from the target."""
        while data := await reader.read(CHUNK):
            await self._passing.wait()
            if answers and self.style == MUTE:
                continue
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


class Doors:
    """All doors of this process, and the thread that runs them."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="doors", daemon=True)
        self._thread.start()
        self._by_name: Dict[str, List[Door]] = {}
        self._ports: Dict[Tuple[str, int], Door] = {}

    def to(self, name: str, target: int) -> int:
        """Return the port of the door with this name to the port `target`. The door is made at the first call."""
        door = self._ports.get((name, target))
        if door is None:
            door = self._ports[name, target] = self._run(self._make(target))
            self._by_name.setdefault(name, []).append(door)
        return door.port

    async def _make(self, target: int) -> Door:
        door = Door(target)
        await door.open()
        return door

    def count(self, name: str) -> int:
        """Return how many doors have this name."""
        return len(self._by_name.get(name, []))

    def trouble(self, name: str, number: int, style: str, seconds: float) -> Callable[[], bool]:
        """Begin a fault at a door of this name; return a function that says whether the fault is over."""
        doors = self._by_name[name]
        door = doors[number % len(doors)]
        self._run(door.begin(style))
        return asyncio.run_coroutine_threadsafe(door.end(0 if style == CUT else seconds), self._loop).done

    def close(self) -> None:
        """Close all doors and stop their thread."""
        for doors in self._by_name.values():
            for door in doors:
                self._run(door.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self, call: "Awaitable[Any]") -> Any:
        return asyncio.run_coroutine_threadsafe(_awaited(call), self._loop).result(60)


async def _awaited(call: "Awaitable[Any]") -> Any:
    return await call
