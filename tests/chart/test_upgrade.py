"""An upgrade from the last released chart, rendered by both: nothing changes that Kubernetes or pods can't take."""

import copy
from itertools import product

import pytest

from tests.chart.cluster.network import Identity, Policies
from tests.chart.rendering import CHART, NAMESPACE, PREVIOUS, SETS, manifests, of_kind, pods, texts, values_of

# What an API server refuses to change, by kind.
FIXED = {
    "Deployment": [("spec", "selector")],
    "DaemonSet": [("spec", "selector")],
    "StatefulSet": [("spec", "selector"), ("spec", "serviceName"), ("spec", "volumeClaimTemplates")],
    "Service": [("spec", "clusterIP")],
    "Job": [("spec", "template"), ("spec", "completions")],
}
# What others refer to by name, or what holds data: under another name it would be a new one beside or instead of it.
KEPT = ("Service", "StatefulSet", "ServiceAccount", "Secret", "ExternalSecret", "SecretProviderClass", "Certificate")


@pytest.fixture(scope="module", params=SETS)
def releases(request):
    """What the released chart made of a value set, and what this one makes of the same values."""
    values = values_of(request.param, PREVIOUS)  # those that an operator has; the new chart must take them
    old = list(manifests(texts(values, chart=PREVIOUS)))
    return old, list(manifests(texts(values, chart=CHART, revision=2)))


def named(found):
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def at(manifest, path):
    for key in path:
        manifest = (manifest or {}).get(key)
    return manifest


def replaced(manifest):
    """Whether Helm removes the old one first."""
    policy = manifest["metadata"].get("annotations", {}).get("helm.sh/hook-delete-policy", "")
    return "before-hook-creation" in policy


def refused(old, new):
    """Return what an API server would refuse."""
    before, after = named(old), named(new)
    both = [(before[key], after[key]) for key in before.keys() & after.keys() if not replaced(after[key])]
    return [
        (one["kind"], one["metadata"]["name"], path)
        for one, other in both
        for path in FIXED.get(one["kind"], [])
        if at(one, path) != at(other, path)
    ]


def lost_keys(old, new):
    """Return what new pods ask of their Secrets and the old ones didn't: a Secret that is there has no such key."""
    return {(name, key) for name, keys in secret_keys(new).items() for key in keys - secret_keys(old).get(name, keys)}


def secret_keys(found):
    held = {}
    for pod in pods(found).values():
        for volume in (each["secret"] for each in pod["spec"].get("volumes", []) if "secret" in each):
            held.setdefault(volume["secretName"], set()).update(item["key"] for item in volume.get("items", []))
    return held


def shut(old, new):
    """Return the ways between old pods that the new policies, which hold for them at once, no longer leave open."""
    ends = [identity(name, pod) for name, pod in pods(old).items()]
    policies = [Policies(found, NAMESPACE) for found in (old, new)]
    ways = [(s, t, port) for s, t in product(ends, ends) if s is not t for port in t.ports.values()]
    before, now = ([each.allow(*way) for way in ways] for each in policies)
    lost = [way for way, was, still in zip(ways, before, now, strict=True) if was and not still]
    return [(s.name, t.name, port) for s, t, port in lost]


def identity(name, pod):
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    by_name = {port["name"]: port["containerPort"] for port in ports}
    return Identity(name, pod["metadata"]["labels"], NAMESPACE, by_name)


def test_the_released_chart_is_older():
    rendered = [list(manifests(texts(values_of("laptop", PREVIOUS), chart=chart))) for chart in (PREVIOUS, CHART)]
    old, new = (of_kind(found, "Service")["kefu-gateway"]["metadata"]["labels"] for found in rendered)
    assert old["helm.sh/chart"] != new["helm.sh/chart"], "a released version is not changed: give the chart a new one"


def test_nothing_is_changed_that_an_api_server_refuses_to_change(releases):
    assert refused(*releases) == []


def test_what_has_data_or_is_referred_to_keeps_its_name(releases):
    old, new = (named(found) for found in releases)
    assert [key for key in old if key[0] in KEPT and key not in new] == []


def test_pods_find_in_secrets_that_are_there_what_they_ask_for(releases):
    assert lost_keys(*releases) == set()


def test_old_pods_keep_their_ways_until_they_go(releases):
    assert shut(*releases) == []


def test_old_pods_find_the_ports_of_services(releases):
    for (kind, name), service in named(releases[0]).items():
        if kind == "Service":
            ports = {(port["name"], port["port"]) for port in service["spec"]["ports"]}
            now = of_kind(releases[1], "Service")[name]["spec"]["ports"]
            assert ports <= {(port["name"], port["port"]) for port in now}, name


def test_pods_have_no_less_time_to_go(releases):
    old, new = (pods(found) for found in releases)
    for name in ("kefu-gateway", "kefu-worker", "kefu-actions"):
        times = [found[name]["spec"]["terminationGracePeriodSeconds"] for found in (old, new)]
        assert times[1] >= times[0], name


def test_breaking_change_is_noticed():
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
