"""The shop's client gets over a shop that was slow."""

import asyncio
from contextlib import asynccontextmanager

from actions.backend import MAX_CONNECTIONS, NotFound, Shop, ShopUnavailable

BUDGET_S = 0.2
RUSH = 5 * MAX_CONNECTIONS


@asynccontextmanager
async def slow_shop():
    """A shop that knows no orders, and answers only while the gate is open."""
    gate, handling = asyncio.Event(), set()

    async def serve(reader, writer):
        handling.add(asyncio.current_task())
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await gate.wait()
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", gate
    finally:
        server.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)


async def test_calls_that_were_given_up_do_not_take_the_connections_of_later_ones():
    async with slow_shop() as (url, gate):
        shop = Shop(url, "token", BUDGET_S)
        for _ in range(4):
            rush = [shop.own_order("demo", "alice", "20260001") for _ in range(RUSH)]
            found = await asyncio.gather(*rush, return_exceptions=True)
            assert {type(each) for each in found} == {ShopUnavailable}
        gate.set()
        deadline = asyncio.get_running_loop().time() + 60
        while not isinstance(await _answer(shop), NotFound):
            assert asyncio.get_running_loop().time() < deadline, "the shop is back, its client is not"
        await shop.close()


async def _answer(shop):
    try:
        return await shop.own_order("demo", "alice", "20260001")
    except ShopUnavailable as error:
        return error
