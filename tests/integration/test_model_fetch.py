"""A worker's model is fetched whole and as its digest says, or not at all."""

import hashlib
import http.server
import threading

import pytest

from kefu.__main__ import run
from kefu.errors import ModelUnfetched
from kefu.tools.model_fetch import fetch

ARCHIVE = b"model" * 100_000
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.fixture
def store():
    """A store of models that answers as its list says, then with the archive; counts what it was asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            store.asked += 1
            status = store.statuses.pop(0) if store.statuses else 200
            self.send_response(status)
            self.send_header("Content-Length", str(len(ARCHIVE)))
            self.end_headers()
            self.wfile.write(ARCHIVE[: store.cut])

        def log_message(self, *_):
            pass

    store = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store.asked, store.statuses, store.cut = 0, [], None
    store.url = f"http://127.0.0.1:{store.server_port}/kefu.tar.gz"
    threading.Thread(target=store.serve_forever, daemon=True).start()
    yield store
    store.shutdown()
    store.server_close()


def test_the_command_puts_the_archive_there_and_only_once(store, tmp_path):
    target = tmp_path / "kefu.tar.gz"
    for _ in range(2):
        assert run(["model", "fetch", store.url, "--sha256", DIGEST, "--to", str(target)]) == 0
    assert target.read_bytes() == ARCHIVE
    assert store.asked == 1


def test_a_store_that_fails_for_a_while_is_asked_again(store, tmp_path):
    store.statuses = [503, 502]
    fetch(store.url, DIGEST, tmp_path / "kefu.tar.gz", backoff_s=0)
    assert store.asked == 3


def test_a_model_that_is_not_there_is_not_waited_for(store, tmp_path):
    store.statuses = [404]
    with pytest.raises(ModelUnfetched, match="404"):
        fetch(store.url, DIGEST, tmp_path / "kefu.tar.gz", backoff_s=0)
    assert store.asked == 1


def test_another_model_than_asked_for_is_not_kept(store, tmp_path):
    assert run(["model", "fetch", store.url, "--sha256", "0" * 64, "--to", str(tmp_path / "kefu.tar.gz")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_half_a_model_is_no_model(store, tmp_path):
    store.cut = 1000
    with pytest.raises(ModelUnfetched):
        fetch(store.url, DIGEST, tmp_path / "kefu.tar.gz", backoff_s=0)
    assert not (tmp_path / "kefu.tar.gz").exists()


def test_only_the_web_is_a_store(tmp_path):
    with pytest.raises(ModelUnfetched, match="https"):
        fetch("file:///etc/passwd", DIGEST, tmp_path / "kefu.tar.gz")
