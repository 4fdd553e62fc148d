"""The whole system, once a session, as `make run` starts it: on free ports, in a directory of its own."""

import pytest

from ops.local.stack import PATIENCE, Stack, free_ports


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """A running system; a test that kills a part waits until it is back."""
    settings = {"KEFU_USER_RATE": "0", **PATIENCE}
    system = Stack(tmp_path_factory.mktemp("stack"), free_ports(), overrides=settings)
    try:
        system.start()
        yield system
    finally:
        system.stop()
