"""Releases of new code and models under load, on the laptop's manifests: canary, switch, back. No message is lost."""

import copy
import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading

import pytest
import yaml

from ops.release.changes import NOTHING
from ops.release.steps import Release
from tests.chart.cluster.cluster import Cluster
from tests.chart.customers import Crowd, Customer
from tests.chart.rendering import NAMESPACE, PATIENCE, ROOT, manifests, merged, of_kind, pods, texts, values_of
from tests.waiting import until

MODEL = ROOT / "models" / "kefu.tar.gz"
# No limits of requests. Streams send a heartbeat each second, and so learn within a second that they must end.
RATES = {"KEFU_USER_RATE": "0", "KEFU_SESSION_RATE": "0", "KEFU_HEARTBEAT_S": "1"}
SIGN = "〔2〕"  # the new model's replies begin with it
TENANTS = {
    name: {"site_key": name, "identity_secret": f"{name}-identity-secret", "token_secret": f"{name}-token-secret" * 2}
    for name in ("demo", "acme")
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def signed(sign):
    """Return the model's archive with another id, whose replies begin with a sign."""
    made = io.BytesIO()
    with tarfile.open(MODEL) as old, tarfile.open(fileobj=made, mode="w:gz", compresslevel=1) as new:
        for member in old.getmembers():
            content = old.extractfile(member).read() if member.isfile() else b""
            if member.name.endswith("metadata.json"):
                content = json.dumps(_changed(json.loads(content), sign)).encode()
                member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return made.getvalue()


def _changed(metadata, sign):
    metadata["model_id"] = hashlib.sha256((metadata["model_id"] + sign).encode()).hexdigest()[:32]
    for variants in metadata["domain"]["responses"].values():
        for variant in variants:
            if variant.get("text"):
                variant["text"] = sign + variant["text"]
    return metadata


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The company's store of models, with a new one in it; gives the model's values for `start`."""
    folder = tmp_path_factory.mktemp("models")
    archive = signed(SIGN)
    (folder / "new.tar.gz").write_bytes(archive)
    serve = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=serve.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{serve.server_port}/new.tar.gz"
    yield {"source": "fetch", "url": url, "sha256": hashlib.sha256(archive).hexdigest()}
    serve.shutdown()


pytestmark = pytest.mark.timeout(1800)  # the first test also waits for the cluster to start


def laptop(release=NOTHING):
    """Return the laptop's manifests in a state of a release."""
    ingress = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}
    over = {
        "release": release,
        "secrets": {"values": {"gateway": {"KEFU_TENANTS": json.dumps(TENANTS)}}},
        "networkPolicy": {"ingressFrom": [ingress]},
        "gateway": {"env": RATES, "preStopSeconds": 1},
        "worker": {"env": PATIENCE["worker"], "extraEgress": [{"to": [{"ipBlock": {"cidr": "127.0.0.1/32"}}]}]},
        "actions": {"env": PATIENCE["actions"], "preStopSeconds": 1},
    }
    return list(manifests(texts(merged(values_of("laptop"), over))))


class Site:
    """The cluster of processes in place of Helm and kubectl, for `ops.release`."""

    def __init__(self, cluster):
        self._cluster = cluster

    def apply(self, file, wait):
        self._cluster.apply(laptop(yaml.safe_load(file.read_text())["release"]))
        if wait:
            self._cluster.wait_settled()

    def expect_free(self):
        pass

    def ready(self):
        components = [part + green for part in ("gateway", "worker", "actions") for green in ("", "-green")]
        return {part: sum(pod.ready for pod in self._cluster.pods(f"kefu-{part}")) for part in components}

    def ask(self, track, *words):
        pod = self._cluster.pods("kefu-worker" if track == "blue" else "kefu-worker-green")[0]
        return self._cluster.run(pod, ["python", "-m", "kefu", "release", *words])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster"), NAMESPACE) as running:
        running.apply(laptop())
        running.wait_settled()
        yield running


@pytest.fixture(scope="module")
def release(cluster, tmp_path_factory):
    return Release(Site(cluster), tmp_path_factory.mktemp("values") / "release.yaml")


@pytest.fixture
def crowd(cluster):
    """Customers of two shops who talk during the test. The test fails if a reply was lost or given twice."""
    with Crowd(cluster.url("kefu-gateway", 8080), number=4, tenants=("demo", "acme"), pause_s=0.15) as talking:
        talking.wait_for(8)
        yield talking
        talking.wait_for(8)
    assert talking.check() >= 16


def customer(cluster, tenant="demo", gateway="kefu-gateway"):
    made = Customer(cluster.url(gateway, 8080), tenant=tenant)
    made.open()
    return made


def by(replies):
    """Return which model gave the replies."""
    return "new" if SIGN in replies[0]["text"] else "old"


def test_canary_gets_a_tenant_then_a_share_then_nothing(cluster, release, model, crowd):
    """The candidate, with a new model, answers tenant acme, then half of all customers; `back` ends that.

    A worker of the candidate is killed meanwhile: the messages that were lent to it are taken back.
    """
    release.start({"model": model})
    assert by(customer(cluster).say("你好")) == "old" and by(customer(cluster, "acme").say("你好")) == "old"
    release.canary(["acme"], 0)
    one, other = customer(cluster, "acme"), customer(cluster)
    # After one slow answer, as on a busy machine, lenders send the candidate nothing for REST_S.
    until(lambda: by(one.say("你好")) == "new")
    assert by(other.say("你好")) == "old"
    release.canary([], 50)
    until(lambda: by(one.say("你好")) == by(one.say("hello")) and _share(cluster))
    pod = cluster.pods("kefu-worker-green")[0]
    pod.kill()  # its lenders take the lent messages back
    crowd.wait_for(8)
    release.back()
    cluster.wait_settled()
    until(lambda: by(one.say("你好")) == "old")  # the plan is read once a second
    assert pod.restarts


def test_customer_in_a_form_is_moved_to_the_new_track_and_back(cluster, release, crowd):
    """`switch` and `back` move all customers to the new model and back. The form goes on."""
    asking = customer(cluster)
    asked = asking.say("我的订单到哪了")
    assert by(asked) == "old"
    release.switch()
    asked = asking.say("20260001")
    assert by(asked) == "new" and len(asking.answered) == 2  # the form goes on with its next question to a guest
    assert by(customer(cluster).say("你好")) == "new"
    until(lambda: _inboxes(release, "green") == {"green": {"user.query"}, "blue": {"user.query.candidate"}})
    release.back()
    assert by(asking.say("1234")) == "old" and by(customer(cluster).say("你好")) == "old"
    history = asking.history()
    assert [reply["seq"] for reply in history] == list(range(1, len(history) + 1))


def test_old_track_takes_over_when_the_new_one_has_no_worker(cluster, release, crowd):
    """The release has switched to new images; then the new track's workers are scaled to 0."""
    release.start({"image": {kind: {"tag": "next", "digest": ""} for kind in ("services", "worker")}})
    images = {pod.spec["containers"][0]["image"] for pod in cluster.pods("kefu-gateway-green")}
    assert images == {"kefu/services:next"}
    assert customer(cluster, gateway="kefu-gateway-candidate").say("你好")
    release.switch()
    before = copy.copy(cluster.network.connections)
    assert by(customer(cluster).say("where is my order 20260001")) == "old"  # the model has not changed
    new = {target for source, target, _ in cluster.network.connections - before if source == "ingress"}
    assert new and all(name.startswith("kefu-gateway-green") for name in new)
    cluster.scale("kefu-worker-green", 0)
    until(lambda: not cluster.pods("kefu-worker-green"))
    crowd.wait_for(8)
    assert release.values["active"] == "green"
    cluster.scale("kefu-worker-green", 1)
    until(lambda: _inboxes(release, "blue") == {"green": {"user.query"}, "blue": {"user.query.candidate"}})


def test_finish_removes_the_old_track_and_kills_no_pod(cluster, release, crowd):
    """Each pod ends within its grace period."""
    release.finish()
    until(lambda: not any(cluster.pods(f"kefu-{name}") for name in ("gateway", "worker", "actions")))
    assert not any(pod.killed for pod in cluster.ended), [pod.name for pod in cluster.ended if pod.killed]
    assert customer(cluster).say("你好")


def test_switch_and_canary_restart_no_pod():
    """The pod templates are the same in all states of a release."""
    candidate = {**NOTHING, "candidate": True}
    states = [
        candidate,
        {**candidate, "canary": {"tenants": ["a"], "percent": 5}},
        {**candidate, "active": "green", "former": "blue"},
    ]
    made = [{name: pod for name, pod in pods(laptop(state)).items() if "topics" not in name} for state in states]
    assert made[0] == made[1] == made[2] and {"kefu-worker", "kefu-worker-green"} <= set(made[0])


@pytest.mark.parametrize("active", ["blue", "green"])
def test_gateway_service_follows_the_active_track(active):
    """Each track's workers are scaled by the topic that they read."""
    over = {"release": {**NOTHING, "candidate": True, "active": active}}
    documents = list(manifests(texts(merged(values_of("production"), over))))
    selected = {name: each["spec"]["selector"] for name, each in of_kind(documents, "Service").items()}
    gateways = {"blue": "gateway", "green": "gateway-green"}
    assert selected["kefu-gateway"]["app.kubernetes.io/component"] == gateways.pop(active)
    assert selected["kefu-gateway-candidate"]["app.kubernetes.io/component"] == gateways.popitem()[1]
    triggers = {
        name: next(each["metadata"] for each in scaled["spec"]["triggers"] if each["type"] == "kafka")
        for name, scaled in of_kind(documents, "ScaledObject").items()
        if "worker" in name
    }
    topics = {name: (each["topic"], each["consumerGroup"]) for name, each in triggers.items()}
    first, second = ("kefu-worker", "kefu-worker-green") if active == "blue" else ("kefu-worker-green", "kefu-worker")
    assert topics[first] == ("user.query", "kefu-worker")
    assert topics[second] == ("user.query.candidate", "kefu-worker.candidate")
    names = [(each["kind"], each["metadata"]["name"]) for each in documents]
    assert len(names) == len(set(names))
    secrets = {pod["spec"]["serviceAccountName"] for pod in pods(documents).values()}
    assert secrets <= set(of_kind(documents, "ServiceAccount"))


def _inboxes(release, track):
    """Return the topics that the workers of both tracks read, as a worker of `track` reports them."""
    return {name: {each["inbox"] for each in workers} for name, workers in release._workers(track).items()}


def _share(cluster):
    """Return whether the old model answers some of eight customers and the new model the others."""
    return {by(customer(cluster).say("你好")) for _ in range(8)} == {"new", "old"}
