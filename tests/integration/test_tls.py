"""Mutual TLS: only callers with a certificate of the authority are accepted, and renewed certificates are used."""

import os
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request

import pytest

from kefu.errors import SettingsError
from kefu.tls import client_credentials, server_context
from ops.local.servers import HOST, ROOT, free_port
from tests.tls_files import Authority
from tests.waiting import until


class Server:
    """Sends `hello` to every caller that completes the handshake."""

    def __init__(self, directory):
        self._context = server_context(str(directory), look_every_s=0.05)
        self._socket = socket.create_server((HOST, 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(connection, server_side=True) as greeted:
                    greeted.sendall(b"hello")
            except (ssl.SSLError, OSError):
                connection.close()

    def close(self):
        self._socket.close()


def greeting(port, context, name="actions"):
    """Return the server's first bytes and its certificate."""
    with socket.create_connection((HOST, port), 5) as raw, context.wrap_socket(raw, server_hostname=name) as wrapped:
        return wrapped.recv(100), wrapped.getpeercert(binary_form=True)


@pytest.fixture
def authority():
    return Authority()


@pytest.fixture
def server(authority, tmp_path):
    running = Server(authority.write(tmp_path / "server", "actions"))
    yield running
    running.close()


def test_server_accepts_a_caller_with_the_authoritys_certificate(authority, server, tmp_path):
    caller = client_credentials(str(authority.write(tmp_path / "caller", "worker")))
    assert greeting(server.port, caller.current)[0] == b"hello"


def test_server_refuses_callers_with_none_or_another_certificate(authority, server, tmp_path):
    trusting = ssl.create_default_context(cafile=str(tmp_path / "server" / "ca.crt"))
    other = Authority("others").write(tmp_path / "other", "worker")
    foreign = ssl.create_default_context(cafile=str(tmp_path / "server" / "ca.crt"))
    foreign.load_cert_chain(str(other / "tls.crt"), str(other / "tls.key"))
    for context in (trusting, foreign):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            assert greeting(server.port, context)[0] != b"", "the server closed the connection"


def test_caller_refuses_a_server_of_another_name_or_authority(authority, server, tmp_path):
    caller = client_credentials(str(authority.write(tmp_path / "caller", "worker")))
    with pytest.raises(ssl.SSLCertVerificationError):
        greeting(server.port, caller.current, name="shop")
    doubting = client_credentials(str(Authority("others").write(tmp_path / "other", "worker")))
    with pytest.raises(ssl.SSLCertVerificationError):
        greeting(server.port, doubting.current)


def test_server_uses_a_renewed_certificate_without_a_restart(authority, server, tmp_path):
    """A half-written file, as in the middle of a Secret's change, is ignored."""
    caller = client_credentials(str(authority.write(tmp_path / "caller", "worker")))
    before = greeting(server.port, caller.current)[1]
    (tmp_path / "server" / "tls.crt").write_text("half")  # like a mounted Secret in the middle of a change
    assert greeting(server.port, caller.current)[1] == before
    authority.write(tmp_path / "server", "actions")
    until(lambda: greeting(server.port, caller.current)[1] != before)


def test_tls_directory_without_certificates_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="KEFU_TLS_DIRECTORY"):
        client_credentials(str(tmp_path))


def test_the_action_server_accepts_only_workers_certificates(authority, tmp_path):
    port, health = free_port(), free_port()
    directory = authority.write(tmp_path / "server", "actions")
    settings = {
        "KEFU_ACTION_PORT": str(port),
        "KEFU_ACTION_HEALTH_PORT": str(health),
        "KEFU_TLS_DIRECTORY": str(directory),
        "SHOP_URL": "http://127.0.0.1:9",
        "KEFU_SHOP_TOKEN": "x",
    }
    command = [sys.executable, "-m", "kefu", "actions"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings})
    try:
        _until_ready(health, process)
        caller = client_credentials(str(authority.write(tmp_path / "caller", "worker"))).current
        caller.check_hostname = False
        with urllib.request.urlopen(f"https://{HOST}:{port}/actions", context=caller, timeout=5) as answer:
            assert answer.status == 200
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://{HOST}:{port}/actions", timeout=5)
        nobody = ssl.create_default_context(cafile=str(directory / "ca.crt"))
        nobody.check_hostname = False
        with pytest.raises(OSError):
            urllib.request.urlopen(f"https://{HOST}:{port}/actions", context=nobody, timeout=5)
    finally:
        process.terminate()
        process.wait(30)


def _until_ready(port, process):
    def ready():
        assert process.poll() is None
        with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=5):
            return True

    until(ready, "the action server to be ready", not_yet=(OSError,))
