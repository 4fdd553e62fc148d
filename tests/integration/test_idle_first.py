"""`python -m kefu idle-first` against a stand-in for Kubernetes' API: the least busy pod gets the lowest cost."""

import http.server
import json
import ssl
import threading
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest

from kefu.tools.idle_first import COST, cores, main
from ops.local.servers import HOST
from tests.tls_files import Authority

TOKEN = "token-of-the-account"
SELECTOR = "app.kubernetes.io/instance=kefu,app.kubernetes.io/component in (gateway,worker)"


class Kubernetes:
    """The calls of an API server that the command makes. `pods` has annotations by name, `used` CPU by container."""

    def __init__(self, directory):
        self.pods, self.used, self.patched, self.status = {}, {}, [], {}
        self.directory = directory
        (directory / "token").write_text(TOKEN + "\n")
        files = Authority().write(directory, "kubernetes", [HOST])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files / "tls.crt", files / "tls.key")
        self._server = http.server.ThreadingHTTPServer((HOST, 0), self._handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"https://{HOST}:{self._server.server_port}"

    def look(self, account=None):
        words = {"namespace": "shop", "selector": SELECTOR, "api": self.url, "account": str(account or self.directory)}
        return main([word for key, value in words.items() for word in (f"--{key}", value)])

    def deleted_first(self):
        """Return the pods' names in the order in which a ReplicaSet deletes them."""
        return sorted(self.pods, key=lambda name: int(self.pods[name].get(COST, "0")))

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method, path, query, body):
        if path == "/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods":
            return 200, {"items": [self._figures(name) for name in self.used]}
        if method == "GET" and path == "/api/v1/namespaces/shop/pods":
            assert query["labelSelector"] == [SELECTOR]
            return 200, {"items": [{"metadata": {"name": n, "annotations": a}} for n, a in self.pods.items()]}
        name = path.removeprefix("/api/v1/namespaces/shop/pods/")
        if self.status.get(name):
            return self.status[name], {}
        self.patched.append(name)
        self.pods[name].update(body["metadata"]["annotations"])
        return 200, {}

    def _figures(self, name):
        return {"metadata": {"name": name}, "containers": [{"usage": {"cpu": cpu}} for cpu in self.used[name]]}

    def _handler(outer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                url = urlsplit(self.path)
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
                status, found = 401, {}
                if self.headers["Authorization"] == f"Bearer {TOKEN}":
                    status, found = outer.answer(self.command, url.path, parse_qs(url.query), body)
                data = json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_PATCH = do_GET

            def log_message(self, *_):
                pass

        return Handler


@pytest.fixture
def kubernetes(tmp_path):
    server = Kubernetes(tmp_path)
    yield server
    server.close()


def test_the_least_busy_pod_is_deleted_first(kubernetes):
    """`idle-first` writes the pods' deletion costs, by which Kubernetes chooses when it scales down."""
    kubernetes.pods = {"busy": {}, "idle": {"other": "kept"}, "middling": {}}
    kubernetes.used = {"busy": ["900m", "100m"], "idle": ["2m"], "middling": ["120000000n"]}
    assert kubernetes.look() == 0
    assert kubernetes.deleted_first() == ["idle", "middling", "busy"]
    assert kubernetes.pods["idle"]["other"] == "kept"


def test_small_changes_of_load_are_not_written_to_the_pod(kubernetes):
    kubernetes.pods = {"a": {}, "b": {}}
    kubernetes.used = {"a": ["500m"], "b": ["100m"]}
    assert kubernetes.look() == 0
    kubernetes.patched.clear()
    kubernetes.used = {"a": ["430m"], "b": ["220m"]}
    assert kubernetes.look() == 0
    assert kubernetes.patched == ["b"]


def test_a_pod_without_a_cpu_figure_is_deleted_before_busy_ones(kubernetes):
    kubernetes.pods = {"new": {}, "works": {}}
    kubernetes.used = {"works": ["50m"]}
    assert kubernetes.look() == 0
    assert kubernetes.deleted_first() == ["new", "works"]


def test_pod_that_was_deleted_meanwhile_is_no_error(kubernetes):
    kubernetes.pods, kubernetes.used = {"gone": {}, "here": {}}, {"gone": ["1"], "here": ["1"]}
    kubernetes.status["gone"] = 404
    assert kubernetes.look() == 0
    assert kubernetes.patched == ["here"]


def test_refusal_by_kubernetes_is_reported_without_the_token(kubernetes, capsys):
    kubernetes.pods, kubernetes.used = {"a": {}}, {"a": ["1"]}
    kubernetes.status["a"] = 403
    assert kubernetes.look() == 1
    output = capsys.readouterr().err
    assert "403" in output and TOKEN not in output


def test_api_server_of_another_authority_is_not_trusted(kubernetes, tmp_path):
    other = Authority().write(tmp_path / "other", "kubernetes", [HOST])
    (other / "token").write_text(TOKEN)
    assert kubernetes.look(account=other) == 1
    assert kubernetes.patched == []


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [("0", "0"), ("2", "2"), ("250m", "0.25"), ("1500u", "0.0015"), ("12345678n", "0.012345678")],
)
def test_kubernetes_cpu_quantities_are_read_as_cores(quantity, expected):
    assert cores(quantity) == Decimal(expected)
