"""An upgrade from the last released chart: no change is refused by Kubernetes or breaks pods that still run."""

import copy
from itertools import product

import pytest

from tests.chart.cluster.network import Identity, Policies
from tests.chart.rendering import CHART, NAMESPACE, PREVIOUS, SETS, manifests, of_kind, pods, texts, values_of

# Fields that an API server refuses to change, by kind.
FIXED = {
    "Deployment": [("spec", "selector")],
    "DaemonSet": [("spec", "selector")],
    "StatefulSet": [("spec", "selector"), ("spec", "serviceName"), ("spec", "volumeClaimTemplates")],
    "Service": [("spec", "clusterIP")],
    "Job": [("spec", "template"), ("spec", "completions")],
}
# Kinds that other objects refer to by name, or that hold data. A renamed object would be a new and empty one.
KEPT = ("Service", "StatefulSet", "ServiceAccount", "Secret", "ExternalSecret", "SecretProviderClass", "Certificate")


@pytest.fixture(scope="module", params=SETS)
def releases(request):
    """The manifests of a value set by the released chart, and those of the same values by this chart."""
    values = values_of(request.param, PREVIOUS)  # an operator keeps these values; the new chart must accept them
    old = list(manifests(texts(values, chart=PREVIOUS)))
    return old, list(manifests(texts(values, chart=CHART, revision=2)))


def named(documents):
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


def at(manifest, path):
    for key in path:
        manifest = (manifest or {}).get(key)
    return manifest


def replaced(manifest):
    """Return whether Helm removes the old object before it creates the new one."""
    policy = manifest["metadata"].get("annotations", {}).get("helm.sh/hook-delete-policy", "")
    return "before-hook-creation" in policy


def refused(old, new):
    """Return the changes that an API server would refuse."""
    before, after = named(old), named(new)
    both = [(before[key], after[key]) for key in before.keys() & after.keys() if not replaced(after[key])]
    return [
        (one["kind"], one["metadata"]["name"], path)
        for one, other in both
        for path in FIXED.get(one["kind"], [])
        if at(one, path) != at(other, path)
    ]


def lost_keys(old, new):
    """Return the keys of Secrets that only new pods read: an existing Secret may lack them."""
    return {(name, key) for name, keys in secret_keys(new).items() for key in keys - secret_keys(old).get(name, keys)}


def secret_keys(documents):
    keys = {}
    for pod in pods(documents).values():
        for volume in (each["secret"] for each in pod["spec"].get("volumes", []) if "secret" in each):
            keys.setdefault(volume["secretName"], set()).update(item["key"] for item in volume.get("items", []))
    return keys


def shut(old, new):
    """Return the connections between old pods that the new policies, which hold at once, no longer allow."""
    ends = [identity(name, pod) for name, pod in pods(old).items()]
    policies = [Policies(documents, NAMESPACE) for documents in (old, new)]
    ways = [(s, t, port) for s, t in product(ends, ends) if s is not t for port in t.ports.values()]
    before, now = ([each.allow(*way) for way in ways] for each in policies)
    lost = [way for way, was, still in zip(ways, before, now, strict=True) if was and not still]
    return [(s.name, t.name, port) for s, t, port in lost]


def identity(name, pod):
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    by_name = {port["name"]: port["containerPort"] for port in ports}
    return Identity(name, pod["metadata"]["labels"], NAMESPACE, by_name)


def test_released_chart_has_another_version():
    rendered = [list(manifests(texts(values_of("laptop", PREVIOUS), chart=chart))) for chart in (PREVIOUS, CHART)]
    old, new = (of_kind(documents, "Service")["kefu-gateway"]["metadata"]["labels"] for documents in rendered)
    assert old["helm.sh/chart"] != new["helm.sh/chart"], "a released version is not changed: give the chart a new one"


def test_upgrade_changes_no_immutable_field(releases):
    assert refused(*releases) == []


def test_upgrade_renames_no_object_with_data_or_references(releases):
    old, new = (named(documents) for documents in releases)
    assert [key for key in old if key[0] in KEPT and key not in new] == []


def test_upgraded_pods_need_no_new_key_of_existing_secrets(releases):
    assert lost_keys(*releases) == set()


def test_new_network_policies_allow_the_old_pods_connections(releases):
    """The policies hold at once, while old pods still run."""
    assert shut(*releases) == []


def test_upgrade_keeps_the_ports_of_services(releases):
    for (kind, name), service in named(releases[0]).items():
        if kind == "Service":
            ports = {(port["name"], port["port"]) for port in service["spec"]["ports"]}
            now = of_kind(releases[1], "Service")[name]["spec"]["ports"]
            assert ports <= {(port["name"], port["port"]) for port in now}, name


def test_upgrade_shortens_no_grace_period(releases):
    old, new = (pods(documents) for documents in releases)
    for name in ("kefu-gateway", "kefu-worker", "kefu-actions"):
        times = [documents[name]["spec"]["terminationGracePeriodSeconds"] for documents in (old, new)]
        assert times[1] >= times[0], name


def test_upgrade_checks_find_breaking_changes():
    """They are another selector, another template of a Job, a new key of a Secret, and a forbidden connection."""
    old = list(manifests(texts(values_of("laptop"))))
    new = copy.deepcopy(old)
    deployment = of_kind(new, "Deployment")["kefu-actions"]
    deployment["spec"]["selector"]["matchLabels"]["tier"] = "x"
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    next(each for each in volumes if each["name"] == "secrets")["secret"]["items"].append({"key": "NEW", "path": "NEW"})
    of_kind(new, "Job")["kefu-topics-1"]["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    del of_kind(new, "NetworkPolicy")["kefu-actions"]["spec"]["ingress"]
    assert sorted(refused(old, new)) == [
        ("Deployment", "kefu-actions", ("spec", "selector")),
        ("Job", "kefu-topics-1", ("spec", "template")),
    ]
    assert lost_keys(old, new) == {("kefu-actions", "NEW")}
    assert shut(old, new) == [("kefu-worker", "kefu-actions", 5055)]
