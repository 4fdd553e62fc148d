"""From a URL to an engine with its tables and, when they are empty, the demo data."""

import logging
from pathlib import Path

import stamina
from sqlalchemy import event, func, make_url, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from kefu.errors import SettingsError
from ops.local.shop import demo
from ops.local.shop.models import Base, Customer, Order

KEY = "KEFU_SHOP_DATABASE_URL"
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
BUSY_TIMEOUT_MS = 5000
CONNECT_TIMEOUT_S = 5
SEED_LOCK = 20260001  # any number: names the lock in PostgreSQL

logger = logging.getLogger(__name__)


def open_engine(database_url: str) -> AsyncEngine:
    """Return an engine without connecting; raises SettingsError for a URL that can't work."""
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):  # `from None`: the error shows the URL, password included
        raise SettingsError(KEY, "is no URL; give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME") from None
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    if url.drivername not in DRIVERS.values():
        raise SettingsError(KEY, "must start with sqlite:/// or postgresql://")
    if url.drivername == DRIVERS["postgresql"]:
        return create_async_engine(url, pool_pre_ping=True, pool_timeout=2, connect_args={"timeout": CONNECT_TIMEOUT_S})
    if url.database in (None, "", ":memory:"):
        raise SettingsError(KEY, "must name a file: each connection would see a memory of its own")
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(KEY, f"names a folder that can't be made ({type(error).__name__})") from error
    engine = create_async_engine(url, pool_timeout=2)
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    return engine


async def prepare(database_url: str) -> None:
    """Create what is missing. Any number of processes may do so at once: a lock lets in one.

    Raises:
        SettingsError: the database can't be reached or written.
    """
    engine = open_engine(database_url)
    try:
        await _create(engine)
    except Exception as error:  # noqa: BLE001 - drivers raise their own, and their texts may show the URL
        raise SettingsError(KEY, f"names a database that can't be used ({type(error).__name__})") from None
    finally:
        await engine.dispose()


async def _create(engine: AsyncEngine) -> None:
    # SQLite refuses a switch to WAL while another process makes the same one, whatever the busy timeout.
    async for attempt in stamina.retry_context(
        on=DBAPIError, attempts=8, timeout=10, wait_initial=0.05, wait_max=0.5, wait_jitter=0.1
    ):
        with attempt:
            async with engine.begin() as connection:
                await _lock(connection)
                await connection.run_sync(Base.metadata.create_all)
                await _seed_if_empty(connection)


async def _lock(connection: AsyncConnection) -> None:
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:name)"), {"name": SEED_LOCK})


async def _seed_if_empty(connection: AsyncConnection) -> None:
    if await connection.scalar(select(func.count()).select_from(Customer)):
        return
    customers, orders = demo.customers(), demo.orders()
    await connection.execute(Customer.__table__.insert(), customers)
    await connection.execute(Order.__table__.insert(), orders)
    logger.info("demo data written", extra={"fields": {"customers": len(customers), "orders": len(orders)}})


def _prepare_sqlite(connection: object, _: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")  # first: the next one needs it
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
