"""A worker's model is fetched whole and with the expected digest, or not at all."""

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
    """A store of models that answers with the statuses of a list, then with the archive; it counts the requests."""

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


def test_model_that_is_there_is_not_fetched_again(store, tmp_path):
    target = tmp_path / "kefu.tar.gz"
    for _ in range(2):
        assert run(["model", "fetch", store.url, "--sha256", DIGEST, "--to", str(target)]) == 0
    assert target.read_bytes() == ARCHIVE
    assert store.asked == 1


def test_model_fetch_is_retried_after_502_and_503(store, tmp_path):
    store.statuses = [503, 502]
    fetch(store.url, DIGEST, tmp_path / "kefu.tar.gz", backoff_s=0)
    assert store.asked == 3


def test_model_fetch_is_not_retried_after_404(store, tmp_path):
    store.statuses = [404]
    with pytest.raises(ModelUnfetched, match="404"):
        fetch(store.url, DIGEST, tmp_path / "kefu.tar.gz", backoff_s=0)
    assert store.asked == 1


def test_model_with_another_digest_is_not_kept(store, tmp_path):
    assert run(["model", "fetch", store.url, "--sha256", "0" * 64, "--to", str(tmp_path / "kefu.tar.gz")]) == 1
    assert list(tmp_path.iterdir()) == []


def test_truncated_model_is_not_kept(store, tmp_path):
    store.cut = 1000
    with pytest.raises(ModelUnfetched):
        fetch(store.url, DIGEST, tmp_path / "kefu.tar.gz", backoff_s=0)
    assert not (tmp_path / "kefu.tar.gz").exists()


def test_model_is_fetched_from_http_urls_only(tmp_path):
    with pytest.raises(ModelUnfetched, match="https"):
        fetch("file:///etc/passwd", DIGEST, tmp_path / "kefu.tar.gz")
