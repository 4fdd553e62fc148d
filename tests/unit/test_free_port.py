"""Ports for the servers of tests: two test processes never get the same port."""

import socket

import pytest

from ops.local import servers
from ops.local.servers import HOST, free_port


@pytest.fixture
def alone(monkeypatch):
    """A process that has asked for no port yet."""
    own = {}
    monkeypatch.setattr(servers, "_own", own)
    yield own
    for held, _ in own.values():
        held.close()


def test_processes_with_the_same_port_range_share_no_port(alone, monkeypatch):
    ports = []
    for process_id in (7, 7 + servers._PLACES):
        monkeypatch.setattr(servers.os, "getpid", lambda process_id=process_id: process_id)
        ports += [free_port() for _ in range(50)]
    assert len(set(ports)) == 100


def test_port_in_use_is_skipped(alone):
    port = free_port()
    with socket.create_server((HOST, port + 1)):
        assert free_port() == port + 2


def test_process_without_free_ports_gets_an_error(alone):
    held, _ = servers._claim()
    alone[servers.os.getpid()] = held, iter(())
    with pytest.raises(RuntimeError, match="stop what listens on them"):
        free_port()
