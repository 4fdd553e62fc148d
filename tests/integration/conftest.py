"""What the tests of the gateway's API ask for."""

import pytest
import pytest_asyncio

from kefu.gateway import hub
from tests.integration.gateway_kit import running_valkey, serve


@pytest.fixture(scope="module")
def valkey(tmp_path_factory):
    """One Redis-protocol server a test module, which its tests may stop and start."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest_asyncio.fixture
async def served(valkey):
    """A gateway with short times, and an inbox in memory."""
    async with serve(valkey.settings) as running:
        yield running


@pytest.fixture
def only_hints(monkeypatch):
    """Nothing is found by looking again: what comes was hinted."""
    monkeypatch.setattr(hub, "POLL_S", 3600.0)
