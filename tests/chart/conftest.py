"""The manifests of a laptop, run once a session: the last released chart is installed, and tests upgrade it."""

import hashlib
import http.server
import threading
from functools import partial

import pytest

from tests.chart.cluster.cluster import Cluster
from tests.chart.customers import Crowd
from tests.chart.rendering import (
    CHART,
    NAMESPACE,
    PATIENCE,
    PREVIOUS,
    ROOT,
    SETS,
    manifests,
    merged,
    render,
    texts,
    values_of,
)

MODEL = ROOT / "models" / "kefu.tar.gz"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def store():
    """The company's store of models."""
    serve = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=MODEL.parent))
    threading.Thread(target=serve.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{serve.server_port}/kefu.tar.gz"
    serve.shutdown()


@pytest.fixture(scope="session")
def laptop(store):
    """Return a function that renders the laptop's values; `change` is a setting that makes all pods new."""

    def rendered(change="0", chart=CHART, revision=1, **over):
        model = {"source": "fetch", "url": store, "sha256": hashlib.sha256(MODEL.read_bytes()).hexdigest()}
        changed = {"KEFU_TEST_CHANGE": change}
        gateway = {"KEFU_USER_RATE": "0", "KEFU_SESSION_RATE": "0", "KEFU_HEARTBEAT_S": "1", **changed}
        own = {
            "tls": {"enabled": True},
            "networkPolicy": {"ingressFrom": [_from("ingress-nginx")], "monitoringFrom": [_from("monitoring")]},
            "gateway": {"env": gateway, "preStopSeconds": 2},
            "worker": {
                "env": PATIENCE["worker"] | changed,
                "model": model,
                "extraEgress": [{"to": [{"ipBlock": {"cidr": "127.0.0.1/32"}}]}],
            },
            "actions": {"env": PATIENCE["actions"] | changed, "preStopSeconds": 2},
        }
        values = merged(values_of("laptop", chart), merged(own, over))
        return list(manifests(texts(values, chart=chart, revision=revision)))

    return rendered


@pytest.fixture(scope="session")
def cluster(laptop, tmp_path_factory):
    """A namespace with the last released chart in it."""
    with Cluster(tmp_path_factory.mktemp("cluster"), NAMESPACE) as running:
        running.apply(laptop(chart=PREVIOUS))
        running.wait_settled()
        yield running


@pytest.fixture(scope="session")
def upgrade(laptop):
    """This chart's manifests, as an upgrade of the released chart's."""
    return laptop(change="1", revision=2, prePull={"enabled": True})


@pytest.fixture
def crowd(cluster):
    """Customers who talk during the test. The test fails if one of their messages or replies was lost."""
    with Crowd(cluster.url("kefu-gateway", 8080), number=4) as talking:
        talking.wait_for(8)
        yield talking
        talking.wait_for(8)
    assert talking.check() >= 16


@pytest.fixture(name="manifests", scope="module", params=SETS)
def manifests_of_each_set(request):
    """The manifests of each value set."""
    return render(request.param)


def _from(namespace):
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
