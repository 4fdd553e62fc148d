"""Access in the running manifests: the connections between processes, and that tokens and certificates are required."""

import json
import os
import socket
import ssl
import urllib.error
import urllib.request

import pytest

from tests.chart.cluster.cluster import CUSTOMERS
from tests.chart.cluster.network import Identity, connections, outgoing, sockets_of
from tests.chart.customers import Customer, Desk
from tests.chart.rendering import NAMESPACE, values_of

PORTS = {"gateway": 8080, "actions": 5055, "shop": 8090, "kafka": 9092, "redis": 6379}
pytestmark = pytest.mark.timeout(900)  # the first test also waits for the cluster to start
TENANT = json.loads(values_of("laptop")["secrets"]["values"]["gateway"]["KEFU_TENANTS"])["demo"]


@pytest.fixture(scope="module", autouse=True)
def upgraded(cluster, upgrade):
    """Upgrade the cluster to this chart, which changes nothing if test_running.py has done so."""
    cluster.apply(upgrade)
    cluster.wait_settled()


@pytest.fixture(scope="module")
def alice(cluster):
    """A customer who has asked for an order, so that the message has used every connection between processes."""
    customer = Customer(cluster.url("kefu-gateway", 8080), user="alice")
    customer.open()
    assert "运单号" in customer.say("我的订单20260001到哪了")[0]["text"]
    return customer


def test_pods_use_every_allowed_connection_and_no_other(cluster, alice):
    """Allowed are the connections of the NetworkPolicies."""
    names = {pod.identity.name: _component(pod.identity) for pod in [*cluster.pods(), *cluster.ended]}
    names[CUSTOMERS.name] = "ingress"
    used = {(names[source], names[target], port) for source, target, port in cluster.network.connections}
    assert used == _allowed(cluster)
    assert not cluster.network.refused


def test_pods_connect_to_each_other_through_services_only(cluster, alice, store):
    """Only then does the test cluster see a connection and decide by NetworkPolicy."""
    models = store.removeprefix("http://").partition("/")[0]
    past = {(name, where) for name, where in cluster.past_services if where != models}
    assert past == set()


def test_connection_that_bypasses_the_services_is_found(cluster):
    assert _outgoing(cluster.pods("kefu-shop")[0].pid) == []
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        assert f"127.0.0.1:{server.getsockname()[1]}" in _outgoing(os.getpid())


def test_accepted_connection_of_a_closed_listener_is_not_outgoing():
    """A stopping server closes its listener before its connections, which then look like its own calls."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    with socket.create_connection(server.getsockname()) as customer, server.accept()[0]:
        server.close()
        came_from = f"127.0.0.1:{customer.getsockname()[1]}"
        assert came_from not in _outgoing(os.getpid(), [port])
        assert came_from in _outgoing(os.getpid())  # without the served ports, the connection counts as outgoing


def test_network_policies_refuse_other_pods_and_namespaces(cluster, alice):
    stranger = Identity("stranger", {"app": "stranger"}, NAMESPACE)
    elsewhere = Identity("elsewhere", dict(cluster.pods("kefu-worker")[0].identity.labels), "another")
    for name, port in PORTS.items():
        assert not cluster.connects(stranger, f"kefu-{name}", port), name
        assert not cluster.connects(elsewhere, f"kefu-{name}", port), name
    worker = cluster.pods("kefu-worker")[0].identity
    assert cluster.connects(worker, "kefu-redis", 6379)
    assert not cluster.connects(worker, "kefu-shop", 8090)
    assert not cluster.connects(cluster.pods("kefu-shop")[0].identity, "kefu-redis", 6379)


def test_prometheus_reaches_only_the_ports_of_metrics(cluster):
    prometheus = Identity("prometheus", {"app": "prometheus"}, "monitoring")
    for name, port in (("gateway", 8080), ("actions", 5057), ("shop", 8090)):
        assert cluster.connects(prometheus, f"kefu-{name}", port), name
    for name in ("actions", "kafka", "redis"):
        assert not cluster.connects(prometheus, f"kefu-{name}", PORTS[name]), name


@pytest.mark.parametrize("token", ["", "Bearer wrong"])
def test_request_without_a_valid_token_is_401(cluster, alice, token):
    """Asked are the APIs of the gateway, its desk, the shop and Rasa."""
    shown = {"Authorization": token} if token else {}
    gateway, shop, worker = (cluster.pods(f"kefu-{name}")[0].address for name in ("gateway", "shop", "worker"))
    asked = [f"http://{gateway}:8080/v1/{path}" for path in ("replies", "messages/1", "stream", "desk/conversations")]
    asked += [f"http://{shop}:8090/v1/{path}" for path in ("orders", "orders/20260001", "account", "tickets")]
    asked += [f"http://{worker}:5005/{path}" for path in ("conversations/demo:alice/tracker", "domain", "status")]
    assert {url: _status(url, shown) for url in asked} == dict.fromkeys(asked, 401)


def test_action_server_refuses_callers_without_a_certificate(cluster):
    address = cluster.pods("kefu-actions")[0].address, 5055
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(OSError), socket.create_connection(address, 5) as raw, context.wrap_socket(raw) as wrapped:
        wrapped.sendall(b"GET /webhook HTTP/1.1\r\nHost: actions\r\n\r\n")
        assert wrapped.recv(1) == b"", "the action server talked to somebody without a certificate"
        raise OSError("the server closed the connection")


def test_agent_takes_and_returns_a_conversation_in_the_cluster(cluster):
    url = cluster.url("kefu-gateway", 8080)
    customer, desk = Customer(url, user="bob"), Desk(url, TENANT["desk_secret"])
    customer.open()
    customer.say("转人工")
    handoff = desk.waiting("bob")
    desk.ask("bob", "take", handoff)
    desk.ask("bob", "messages", handoff, text="我是李伟")
    desk.ask("bob", "return", handoff)
    assert "我是李伟" in [reply["text"] for reply in customer.history()]
    assert customer.say("你好")


def _outgoing(pid, served=()):
    sockets = sockets_of(pid)
    return outgoing(sockets, connections(), served)


def _status(url, headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def _allowed(cluster):
    """Return every connection between two components that the policies allow, to the ports that containers have."""
    pods = {_component(pod.identity): pod.identity for pod in cluster.pods()} | {"ingress": CUSTOMERS}
    ways = {(source, target, port) for source in pods for target in PORTS for port in pods[target].ports.values()}
    allow = cluster.network.policies.allow
    return {(s, t, port) for s, t, port in ways if s != t and allow(pods[s], pods[t], port)}


def _component(identity):
    return identity.labels["app.kubernetes.io/component"]
