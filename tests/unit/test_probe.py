"""`python -m kefu probe`: what an image without shell and curl has, for health checks and for who looks."""

import pytest

from kefu.health import HealthServer
from kefu.tools import probe
from ops.local.servers import HOST, free_port


@pytest.fixture
def asked(capsys):
    """Asks a process that lacks these; returns exit code, stdout and stderr."""
    servers = []

    def ask(*missing):
        port = free_port()
        servers.append(HealthServer(HOST, port, lambda: list(missing)))
        servers[-1].start()
        code = probe.main([f"http://{HOST}:{port}/readyz"])
        return code, *capsys.readouterr()

    yield ask
    for server in servers:
        server.stop()


def test_a_process_that_is_ready_needs_no_words(asked):
    assert asked() == (0, "", "")


def test_what_a_process_that_is_not_ready_lacks_is_printed(asked):
    code, _, error = asked("kafka", "partitions")
    assert code == 1 and '"missing": ["kafka", "partitions"]' in error


def test_nobody_at_home_is_told_too(capsys):
    assert probe.main([f"http://{HOST}:{free_port()}/readyz"]) == 1
    assert "refused" in capsys.readouterr().err
