"""`python -m kefu probe`: the exit code is for health checks, the output for an operator."""

import pytest

from kefu.health import HealthServer
from kefu.tools import probe
from ops.local.servers import HOST, free_port


@pytest.fixture
def asked(capsys):
    """Probes a process whose `missing` list is given; returns exit code, stdout and stderr."""
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


def test_probe_of_a_ready_process_prints_nothing(asked):
    assert asked() == (0, "", "")


def test_probe_prints_why_a_process_is_not_ready(asked):
    code, _, error = asked("kafka", "partitions")
    assert code == 1 and '"missing": ["kafka", "partitions"]' in error


def test_probe_reports_an_unreachable_process(capsys):
    assert probe.main([f"http://{HOST}:{free_port()}/readyz"]) == 1
    assert "refused" in capsys.readouterr().err
