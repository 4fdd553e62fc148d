"""A client of many streams: opens a `/v1/stream` for each customer and counts the replies that come.

Run as a process: `python -m ops.bench.gateway.streams HOST PORT COUNT`. When all streams are open, it answers each line
of its standard input with the number of replies so far. It ends when its input ends.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import List

import uvloop

OPENING_AT_ONCE = 50  # limits the streams that are being opened at a time


class Counted(asyncio.Protocol):
    """The connection of one stream. It adds its replies to the class attribute `replies`, the sum of all streams."""

    replies = 0

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Request the stream."""
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Count the replies in the received data."""
        if not self.open.done():
            if not data.startswith(b"HTTP/1.1 200"):
                raise RuntimeError("no stream")
            self.open.set_result(None)
        Counted.replies += data.count(b"event: reply")


async def main(host: str, port: int, tokens: List[str]) -> None:
    """Open the streams, and print the number of replies for each line of standard input, until it ends."""
    loop, room = asyncio.get_running_loop(), asyncio.Semaphore(OPENING_AT_ONCE)

    async def opened(token: str) -> asyncio.BaseTransport:
        request = f"GET /v1/stream HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        async with room:
            transport, stream = await loop.create_connection(lambda: Counted(request), host, port)
            await stream.open
        return transport

    transports = await asyncio.gather(*map(opened, tokens))
    while await asyncio.to_thread(sys.stdin.readline):
        print(Counted.replies, flush=True)
    for transport in transports:
        transport.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), Path(os.environ["TOKENS"]).read_text().split()[: int(sys.argv[3])]))
