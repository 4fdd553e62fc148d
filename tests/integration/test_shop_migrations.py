"""The shop's start brings older databases up to date, also those from before there were migrations."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, inspect, text

from kefu.errors import SettingsError
from ops.local.servers import free_port
from ops.local.shop import database
from ops.local.shop.database import move, open_engine, prepare
from ops.local.shop.models import Base
from tests.integration import first_shop
from tests.integration.shop_calls import ask
from tests.integration.shop_fixtures import ROOT, running_shop, shop_env

pytestmark = pytest.mark.timeout(600)
UP_TO_DATE = "database brought up to date"


async def on(url: str, work):
    """Run `work(connection)`, which blocks, in a transaction of that database; return what it returns."""
    engine = open_engine(url)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def make_first_shop(connection) -> None:
    first_shop.Base.metadata.create_all(connection)
    rows = {
        first_shop.Customer: [first_shop.ALICE, first_shop.BOB],
        first_shop.Order: first_shop.ORDERS,
        first_shop.Inquiry: [first_shop.INQUIRY],
    }
    for table, values in rows.items():
        connection.execute(table.__table__.insert(), values)


def differences(metadata: MetaData):
    """Return a function that lists the differences between a database and its models."""
    known = set(metadata.tables)
    options = {"compare_type": True, "include_object": lambda _, name, kind, *__: kind != "table" or name in known}
    return lambda connection: compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


def tables(connection) -> set[str]:
    return set(inspect(connection).get_table_names())


def rows(query: str):
    return lambda connection: [tuple(row) for row in connection.execute(text(query))]


async def test_migrations_build_the_tables_of_the_models(database_url):
    await prepare(database_url)
    assert await on(database_url, differences(Base.metadata)) == []
    assert await on(database_url, tables) == {*Base.metadata.tables, "alembic_version"}


async def test_comparison_with_the_models_finds_missing_parts(database_url):
    """A dropped column, index and table are found."""
    await prepare(database_url)
    for statement in (
        "DROP INDEX refunds_of_order", "ALTER TABLE customers DROP COLUMN newsletter", "DROP TABLE tickets",
    ):  # fmt: skip
        await on(database_url, lambda connection, statement=statement: connection.execute(text(statement)))
    kinds = {difference[0] for difference in await on(database_url, differences(Base.metadata))}
    assert kinds == {"add_index", "add_column", "add_table"}


async def test_database_without_migrations_is_brought_up_to_date(database_url):
    """Its orders get payment status and address; the refunded order gets a refund."""
    await on(database_url, make_first_shop)
    await prepare(database_url)
    assert await on(database_url, differences(Base.metadata)) == []
    paid = "SELECT number, payment_status, address FROM orders ORDER BY number"
    assert await on(database_url, rows(paid)) == [
        ("20260001", "paid", "上海市浦东新区梧桐路1号"),
        ("20260002", "unpaid", "上海市浦东新区梧桐路1号"),
        ("20260005", "paid", "上海市浦东新区梧桐路1号"),
        ("20260006", "paid", "2 Larch Street, London"),
    ]
    assert await on(database_url, rows("SELECT number, status, amount_minor FROM refunds")) == [
        ("20260005", "paid", 4450)
    ]
    assert await on(database_url, rows("SELECT id, newsletter, deletion_on FROM customers ORDER BY id")) == [
        ("alice", False, None),
        ("bob", False, None),
    ]


async def test_shop_serves_the_orders_of_a_migrated_database(database_url, tmp_path):
    await on(database_url, make_first_shop)
    with running_shop(tmp_path, database_url) as shop:
        listed = ask(shop, "GET", "/v1/orders", "alice").json()["orders"]
        assert [order["number"] for order in listed] == ["20260005", "20260002", "20260001"]
        assert shop.http.get("/v1/inquiries?number=20260001").json()["count"] == 1
        assert ask(shop, "POST", "/v1/orders/20260001/cancellation", "alice").json()["fee"] == "8.90"
        more = ask(shop, "POST", "/v1/orders/20260002/items", "alice", item=1, quantity=3)
        assert more.json()["amount"] == "267.00"
        refunds = ask(shop, "POST", "/v1/orders/20260005/refund-lookups", "alice").json()["refunds"]
        assert [refund["amount"] for refund in refunds] == ["44.50"]
        assert ask(shop, "GET", "/v1/addresses", "bob").json()["addresses"][0]["default"] is True


async def test_concurrent_starts_migrate_an_old_database_once(database_url, tmp_path):
    await on(database_url, make_first_shop)
    folders = [tmp_path / str(n) for n in range(3)]
    for folder in folders:
        folder.mkdir()
    with ExitStack() as stack, ThreadPoolExecutor(3) as pool:
        shops = list(pool.map(lambda folder: stack.enter_context(running_shop(folder, database_url)), folders))
        answers = [ask(shop, "GET", "/v1/orders", "alice").json() for shop in shops]
        logs = "".join(shop.stderr() for shop in shops)
    assert answers[0] == answers[1] == answers[2]
    assert logs.count(UP_TO_DATE) == 1


async def test_shop_start_waits_for_another_process_to_migrate(tmp_path, monkeypatch):
    url, tried, locked = f"sqlite:///{tmp_path / 'shop.db'}", [], database._lock
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 10)
    engine = open_engine(url)

    async def counted(connection):
        tried.append(1)
        await locked(connection)

    try:
        async with engine.connect() as other:
            await locked(other)
            monkeypatch.setattr(database, "_lock", counted)
            starting = asyncio.create_task(prepare(url))
            async with asyncio.timeout(60):
                while len(tried) < 10:
                    assert not starting.done()
                    await asyncio.sleep(0.05)
    finally:
        await engine.dispose()
    await starting
    assert await on(url, differences(Base.metadata)) == []


async def test_shop_start_is_repeated_after_a_time_out_of_the_database(database_url, monkeypatch):
    locked, answers = database._lock, [TimeoutError, None]

    async def slow(connection):
        if answer := answers.pop(0):
            raise answer
        await locked(connection)

    monkeypatch.setattr(database, "_lock", slow)
    await prepare(database_url)
    assert answers == [] and await on(database_url, differences(Base.metadata)) == []


async def test_failed_migration_leaves_the_database_unchanged(database_url):
    """A table in the way makes a late statement of the step fail. Without the table the start succeeds."""
    await on(database_url, make_first_shop)
    in_the_way = "CREATE TABLE policies (x INTEGER)"  # makes a later statement of the step fail
    await on(database_url, lambda connection: connection.execute(text(in_the_way)))
    with pytest.raises(SettingsError):
        await prepare(database_url)
    assert await on(database_url, differences(first_shop.Base.metadata)) == []
    assert await on(database_url, tables) == {*first_shop.Base.metadata.tables, "policies"}
    await on(database_url, lambda connection: connection.execute(text("DROP TABLE policies")))
    await prepare(database_url)
    assert await on(database_url, differences(Base.metadata)) == []


async def test_downgrade_restores_the_first_tables_with_their_rows(database_url):
    await prepare(database_url, datetime(2026, 3, 1, tzinfo=UTC).timestamp())
    before = await on(database_url, rows("SELECT number, status FROM orders ORDER BY number"))
    await move(database_url, "0001")
    assert await on(database_url, differences(first_shop.Base.metadata)) == []
    assert await on(database_url, tables) == {*first_shop.Base.metadata.tables, "alembic_version"}
    await prepare(database_url)
    assert await on(database_url, differences(Base.metadata)) == []
    assert await on(database_url, rows("SELECT number, status FROM orders ORDER BY number")) == before


async def test_migration_adds_service_hours_to_stored_rules(database_url):
    await prepare(database_url)
    service = rows("SELECT rules -> 'service' ->> 'opens', rules -> 'service' ->> 'closes' FROM policies")
    await move(database_url, "0002")
    assert await on(database_url, service) == [(None, None)]
    await prepare(database_url)
    assert await on(database_url, service) == [("09:00", "21:00")]


async def test_downgrade_to_the_base_leaves_no_table(database_url):
    await prepare(database_url)
    await move(database_url, "base")
    assert await on(database_url, tables) == {"alembic_version"}


def run(database_url: str, *command: str) -> subprocess.CompletedProcess:
    env = shop_env(free_port(), database_url)
    whole = [sys.executable, "-m", *command]
    return subprocess.run(whole, check=False, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)


async def test_shop_start_refuses_the_database_of_a_newer_shop(database_url):
    await prepare(database_url)
    newer = "UPDATE alembic_version SET version_num = '9999'"
    await on(database_url, lambda connection: connection.execute(text(newer)))
    ended = run(database_url, "ops.local.shop")
    assert ended.returncode == 1
    assert "KEFU_SHOP_DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_migrations_command_downgrades_and_refuses_unknown_steps(database_url):
    await prepare(database_url)
    migrations = "ops.local.shop.migrations"
    assert run(database_url, migrations, "0001").returncode == 0
    assert "refunds" not in await on(database_url, tables)
    unknown, none = run(database_url, migrations, "7777"), run(database_url, migrations)
    assert (unknown.returncode, none.returncode) == (1, 1)
    assert "Traceback" not in unknown.stderr
    assert "usage" in none.stderr
