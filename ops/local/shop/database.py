"""The database. In: a URL. Out: an engine of a database with up-to-date tables and, if they were empty, demo data."""

import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import stamina
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from kefu.errors import SettingsError
from ops.local.shop.models import Customer
from ops.local.shop.seed import seed

KEY = "KEFU_SHOP_DATABASE_URL"
DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
BUSY_TIMEOUT_MS = 5000
CONNECT_TIMEOUT_S = 5
WAIT_S = 120  # longest wait for another process that migrates or a slow server; beyond it the start fails
SEED_LOCK = 20260001  # the number of the advisory lock in PostgreSQL; any number would do
ROLLED_BACK = "40"  # PostgreSQL's class of error codes for rolled-back transactions, such as deadlocks
MIGRATIONS = Path(__file__).parent / "migrations"
HEAD = "head"
FIRST = "0001"

logger = logging.getLogger(__name__)
logging.getLogger("alembic").setLevel(logging.WARNING)  # Alembic would log the kind of database at each start


def open_engine(database_url: str) -> AsyncEngine:
    """Return an engine without connecting. Raises SettingsError for a URL that can't work."""
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


async def prepare(database_url: str, now: float | None = None) -> None:
    """Create the tables or bring them up to date. Several processes may do so at once: a lock admits one at a time.

    Args:
        database_url: as in the settings.
        now: seconds since the epoch; None means the clock's time.

    Raises:
        SettingsError: the database can't be reached or written, or comes from a newer shop.
    """

    async def steps(connection: AsyncConnection) -> None:
        await connection.run_sync(upgrade)
        await seed(connection, time.time() if now is None else now)

    await _alone(database_url, steps)


async def move(database_url: str, revision: str) -> None:
    """Bring the tables to a newer or older revision: `head`, `0001`, ... or `base`. Raises SettingsError."""

    async def steps(connection: AsyncConnection) -> None:
        await connection.run_sync(upgrade if revision == HEAD else downgrade, revision)

    await _alone(database_url, steps)


async def _alone(database_url: str, steps: Callable[[AsyncConnection], Awaitable[None]]) -> None:
    engine = open_engine(database_url)
    try:
        await _locked(engine, steps)
    except Exception as error:  # noqa: BLE001 - each driver has its own errors, whose texts may show the URL
        raise SettingsError(KEY, f"names a database that can't be used ({type(error).__name__})") from None
    finally:
        await engine.dispose()


async def _locked(engine: AsyncEngine, steps: Callable[[AsyncConnection], Awaitable[None]]) -> None:
    async for attempt in stamina.retry_context(
        on=_passing, attempts=None, timeout=WAIT_S, wait_initial=0.05, wait_max=0.5, wait_jitter=0.1
    ):
        with attempt:
            async with engine.begin() as connection:
                await _lock(connection)
                await steps(connection)


def _passing(error: Exception) -> bool:
    """Return whether a retry can help: another process used the database, or its server was slow."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, TimeoutError)
    # SQLite refuses a switch to WAL while another process makes the same one, whatever the busy timeout.
    busy = str(getattr(error.orig, "sqlite_errorname", "")).startswith("SQLITE_BUSY")
    return busy or error.connection_invalidated or str(getattr(error.orig, "sqlstate", "")).startswith(ROLLED_BACK)


async def _lock(connection: AsyncConnection) -> None:
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:name)"), {"name": SEED_LOCK})


def upgrade(connection: Connection, revision: str = HEAD) -> None:
    """Run the steps up to a revision, in the caller's transaction. Raises CommandError for an unknown revision."""
    config = _config(connection)
    current = MigrationContext.configure(connection).get_current_revision()
    if current is None and inspect(connection).has_table(Customer.__tablename__):
        command.stamp(config, FIRST)  # the database is older than the migrations
        current = FIRST
    command.upgrade(config, revision)
    reached = MigrationContext.configure(connection).get_current_revision()
    if reached != current:
        logger.info("database brought up to date", extra={"fields": {"from": current, "to": reached}})


def downgrade(connection: Connection, revision: str) -> None:
    """Run the steps back to a revision, in the caller's transaction. The rows of later tables are lost."""
    command.downgrade(_config(connection), revision)


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _prepare_sqlite(connection: object, _: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")  # first: the next statement may have to wait
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
