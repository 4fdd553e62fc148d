"""Fixtures of the tests of the gateway's API and of the shop."""

import pytest
import pytest_asyncio

from kefu.gateway.answer import hints
from tests.integration.gateway_kit import running_valkey, serve
from tests.integration.postgres_kit import new_database, running_postgres
from tests.integration.shop_fixtures import running_shop


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    """A Redis-protocol server for each test module, whose tests may stop and start it."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres():
    """One PostgreSQL server for all tests."""
    with running_postgres() as url:
        yield url


@pytest.fixture
def postgres_database(postgres):
    """An empty PostgreSQL database for each test."""
    return new_database(postgres)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path):
    """An empty database for each test, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shop(request, tmp_path_factory):
    """A shop with its demo data, once on each kind of database, shared by the tests of a module."""
    folder = tmp_path_factory.mktemp("shop")
    url = "" if request.param == "sqlite" else new_database(request.getfixturevalue("postgres"))
    with running_shop(folder, url) as server:
        yield server


@pytest_asyncio.fixture
async def served(valkey):
    """A gateway with short times, and an inbox in memory."""
    async with serve(valkey.settings) as running:
        yield running


@pytest.fixture
def only_hints(monkeypatch):
    """Switches polling off, so that only hints bring news."""
    monkeypatch.setattr(hints, "POLL_S", 3600.0)
