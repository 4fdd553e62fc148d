"""The shop's connections to its database. Writers wait in a queue."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

MAX_WRITERS = 10


class Store:
    """One database. No method blocks the event loop.

    Args:
        engine: engine of a prepared database.
        clock: seconds since the epoch.
    """

    def __init__(self, engine: AsyncEngine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self.clock = clock
        self._lite = engine.dialect.name == "sqlite"
        # SQLite admits one writer, and the others sleep for longer and longer: 44 of 4,000 inquiries, 32 at a time,
        # took over 0.5 s. With a queue of writers none did.
        self._writers = asyncio.Semaphore(1 if self._lite else MAX_WRITERS)
        inserts: dict[str, Callable[[Any], sqlite.Insert | postgresql.Insert]] = {
            "sqlite": sqlite.insert,
            "postgresql": postgresql.insert,
        }
        self.insert = inserts[engine.dialect.name]

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Return a connection for reading."""
        return self._engine.connect()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction that commits at the end, or rolls back at an exception."""
        async with self._writers, self._engine.begin() as connection:
            if self._lite:  # SQLite refuses to write in a transaction that began with a read before another's write
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    async def ping(self) -> None:
        """Raise if the database does not answer."""
        async with self.reading() as connection:
            await connection.execute(select(1))
