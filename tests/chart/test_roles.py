"""Staging's manifests are run: each process has its own user at Kafka and Redis, with passwords from a secret store."""

import json
import urllib.error
import urllib.request

import pytest

from ops.local.servers import HOST
from tests.chart.cluster.cluster import Cluster
from tests.chart.customers import Customer
from tests.chart.rendering import NAMESPACE, PATIENCE, of_kind, render, values_of
from tests.e2e.production_redis import PASSWORDS, OnFiles
from tests.integration.secure_kafka import USERS, SecureCluster
from tests.waiting import until

pytestmark = pytest.mark.timeout(1200)  # the first test also waits for the cluster to start
HOOK = "helm.sh/hook"
LOOPBACK = [{"ipBlock": {"cidr": f"{HOST}/32"}}]
TENANTS = values_of("laptop")["secrets"]["values"]["gateway"]["KEFU_TENANTS"]


class Redis(OnFiles):
    """One server on production's file."""

    replicas = 0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    """A broker on production's file: TLS, SCRAM, and only what ACLs allow."""
    brokers = SecureCluster(tmp_path_factory.mktemp("kafka"), size=1)
    try:
        brokers.start()
        yield brokers
    finally:
        brokers.servers[0].kill()  # an orderly stop would take longer, and its data are not needed


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    server = Redis(tmp_path_factory.mktemp("redis"), "redis", {})
    server.start()
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def store(redis):
    """The company's store of secrets: for each path, the content by property."""
    urls = {role: f"redis://{role}:{PASSWORDS[role]}@{HOST}:{redis.port}/0" for role in ("gateway", "worker")}
    roles = ("gateway", "worker", "topics", "backup", "operator")
    passwords = {role: {"KAFKA_SASL_PASSWORD": USERS[f"kefu-{role}"]} for role in roles}
    own = {
        "gateway": {"KEFU_TENANTS": TENANTS, "KEFU_RECEIPT_SECRET": "r" * 32, "REDIS_URL": urls["gateway"]},
        "worker": {"KEFU_RASA_TOKEN": "t" * 32, "REDIS_URL": urls["worker"]},
        "actions": {"KEFU_SHOP_TOKEN": "s" * 32},
        "shop": {"KEFU_SHOP_TOKEN": "s" * 32, "KEFU_SHOP_DATABASE_URL": "sqlite:////data/shop.db"},
        **{name: {} for name in ("topics", "backup", "operator")},
    }
    return {f"kefu/staging/{name}": {**keys, **passwords.get(name, {})} for name, keys in own.items()}


@pytest.fixture(scope="module")
def staging(kafka, redis, store):
    """Return a function that renders staging's values for these servers."""

    def manifests(change="0"):
        settings = {"KEFU_TEST_CHANGE": change}
        documents = render(
            "staging",
            kafka={
                "brokers": kafka.settings("kefu-topics").brokers,
                "partitions": 8,
                "replication": 1,
                "peers": LOOPBACK,
            },
            redis={"ports": [redis.port], "waitReplicas": 0, "peers": LOOPBACK},
            ingress={"enabled": False},
            prePull={"enabled": False},
            idleFirst={"enabled": False},
            gateway={"replicas": 1, "env": {"KEFU_USER_RATE": "0", **settings}, "preStopSeconds": 0},
            worker={"replicas": 1, "env": PATIENCE["worker"], "autoscaling": {"kind": "none"}},
            actions={"replicas": 1, "env": PATIENCE["actions"]},
        )
        authority = (kafka.directory / "authority.pem").read_text()
        ca = {"kind": "Secret", "metadata": {"name": "kafka-ca"}, "stringData": {"ca.crt": authority}}
        return [*documents, ca, *from_store(documents, store)]

    return manifests


@pytest.fixture(scope="module")
def cluster(staging, tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster"), NAMESPACE) as running:
        manifests = staging()
        hooks = [each for each in manifests if HOOK in each["metadata"].get("annotations", {})]
        secrets = [each for each in manifests if each["kind"] == "Secret"]
        running.apply([*hooks, *secrets])  # the topics' job, before anything else, as Helm does
        running.wait_settled()
        running.apply(manifests)
        running.wait_settled()
        yield running


def from_store(manifests, store):
    """Yield the Secrets that External Secrets would make for the ExternalSecrets."""
    for name, each in of_kind(manifests, "ExternalSecret").items():
        places = {part["secretKey"]: part["remoteRef"] for part in each["spec"]["data"]}
        content = {key: store[place["key"]][place["property"]] for key, place in places.items()}
        yield {"kind": "Secret", "metadata": {"name": name}, "stringData": content}


def test_conversation_needs_only_the_rights_of_each_role(cluster, redis):
    """In staging each process has its own user at Kafka and Redis. Redis refused no command."""
    customer = Customer(cluster.url("kefu-gateway", 8080), user="alice")
    customer.open()
    assert "运单号" in customer.say("我的订单20260001到哪了")[0]["text"]
    assert redis.client("operator").execute_command("ACL", "LOG") == []


def test_backup_and_operator_tools_have_the_rights_they_need(cluster, staging):
    documents = staging()
    cron = of_kind(documents, "CronJob")
    jobs = [
        {"kind": "Job", "metadata": {"name": f"{name}-now"}, "spec": cron[name]["spec"]["jobTemplate"]["spec"]}
        for name in ("kefu-backup", "kefu-operator")
    ]
    try:
        cluster.apply([*documents, *jobs])  # as `kubectl create job --from=cronjob/NAME` does
        until(lambda: any(pod.ready for pod in cluster.pods("kefu-operator-now")))
        (operator,) = cluster.pods("kefu-operator-now")
        code, output = cluster.run(operator, ["python", "-m", "kefu", "tenants", "--since", "1h"])
        assert code == 0 and "  demo" in output
        assert cluster.run(operator, ["python", "-m", "kefu", "dlq", "list", "--all"])[0] == 0
        assert cluster.run(operator, ["python", "-m", "kefu", "partitions", "8", "--dry-run"])[0] == 0
        until(lambda: any(pod.succeeded for pod in cluster.pods("kefu-backup-now")))
        assert "user.query: " in cluster.pods("kefu-backup-now")[0].log()
    finally:
        cluster.apply(documents)
        cluster.wait_settled()


def test_gateway_with_a_wrong_password_does_not_become_ready(cluster, staging, store):
    """The update waits: the old gateway stays and serves its customers."""
    password = store["kefu/staging/gateway"]["KAFKA_SASL_PASSWORD"]
    store["kefu/staging/gateway"]["KAFKA_SASL_PASSWORD"] = "another"
    try:
        cluster.apply(staging(change="1"))
        until(lambda: len(cluster.pods("kefu-gateway")) == 2)
        before, after = cluster.pods("kefu-gateway")
        assert after.started.wait(60)
        until(lambda: "kafka" in missing(after))
        assert before.ready and not after.ready and not before.terminating
        customer = Customer(cluster.url("kefu-gateway", 8080))
        customer.open()
        assert customer.say("你好")
    finally:
        store["kefu/staging/gateway"]["KAFKA_SASL_PASSWORD"] = password
        cluster.apply(staging(change="2"))
        cluster.wait_settled()


def missing(pod):
    """Return the reasons that `/readyz` gives for not being ready; empty while the pod does not answer."""
    try:
        with urllib.request.urlopen(f"http://{pod.address}:8080/readyz", timeout=5) as answer:
            return json.load(answer).get("missing", [])
    except urllib.error.HTTPError as error:
        return json.load(error).get("missing", [])
    except OSError:
        return []
