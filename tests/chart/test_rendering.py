"""The rendered manifests are valid for Kubernetes, safe, and complete."""

import copy
import re
from decimal import Decimal

import helm_python as helm
import jsonschema
import kubernetes_validate
import pytest

from tests.chart import schemas
from tests.chart.rendering import (
    CHART,
    INSIDE,
    containers,
    env_of,
    merged,
    of_kind,
    pods,
    render,
    routes_of_the_gateway,
    values_of,
)

RESTRICTED_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"}
RESTRICTED_VOLUMES |= {"persistentVolumeClaim", "projected", "secret"}


@pytest.mark.parametrize("version", schemas.VERSIONS)
def test_every_document_is_what_kubernetes_takes(found, version):
    for manifest in found:
        schemas.check(manifest, version)
    assert len(found) > 25


def test_a_slip_is_noticed(found):
    for manifest in found:
        if "spec" in manifest:
            wrong = copy.deepcopy(manifest)
            wrong["spec"]["replicsa"] = 3
            with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
                schemas.check(wrong, "1.34")


def test_a_kind_without_schema_is_not_passed_over():
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        schemas.check({"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "x"}}, "1.34")


def test_helm_finds_nothing_wrong():
    result = helm.lint(CHART, values_of("laptop"))
    assert [message for message in result["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("autoscaling", ["hpa", "keda"])
def test_both_autoscalers_are_valid(autoscaling):
    scaled = {"kind": autoscaling, "prometheus": "http://prometheus:9090"}
    own = {"gateway": {"autoscaling": scaled}}
    own |= {name: {"autoscaling": {"kind": autoscaling}} for name in ("worker", "actions")}
    manifests = render("production", **own)
    kind = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}[autoscaling]
    assert set(of_kind(manifests, kind)) == {"kefu-gateway", "kefu-worker", "kefu-actions"}
    for manifest in manifests:
        schemas.check(manifest, "1.34")
    deployments = of_kind(manifests, "Deployment")
    assert all("replicas" not in each["spec"] for each in deployments.values())  # an upgrade must not undo a surge


def test_a_surge_is_met_by_doubling_and_left_slowly():
    hpa = of_kind(render("staging", worker={"autoscaling": {"kind": "hpa"}}), "HorizontalPodAutoscaler")["kefu-worker"]
    up, down = hpa["spec"]["behavior"]["scaleUp"], hpa["spec"]["behavior"]["scaleDown"]
    assert up["stabilizationWindowSeconds"] == 0
    assert {"type": "Percent", "value": 100, "periodSeconds": 15} in up["policies"]
    assert down["stabilizationWindowSeconds"] == 300
    assert down["policies"] == [{"type": "Percent", "value": 10, "periodSeconds": 60}]


def test_workers_are_scaled_by_messages_and_by_seconds():
    hpa = of_kind(render("staging", worker={"autoscaling": {"kind": "hpa"}}), "HorizontalPodAutoscaler")["kefu-worker"]
    asked = [metric.get("pods", metric.get("external")) for metric in hpa["spec"]["metrics"][1:]]
    assert {each["metric"]["name"]: each["target"] for each in asked} == {
        "kefu_inbox_lag_messages": {"type": "AverageValue", "averageValue": "30"},
        "kefu_inbox_lag_seconds": {"type": "Value", "value": "30"},
    }
    triggers = of_kind(render("production"), "ScaledObject")["kefu-worker"]["spec"]["triggers"]
    thresholds = [trigger["metadata"].get("lagThreshold", trigger["metadata"].get("threshold")) for trigger in triggers]
    assert [(trigger["type"], at) for trigger, at in zip(triggers, thresholds, strict=True)] == [
        ("cpu", None),
        ("kafka", "30"),
        ("prometheus", "30"),
    ]


def test_pods_meet_pod_security_restricted(found):
    for name, pod in pods(found).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        for volume in spec.get("volumes", []):
            assert (set(volume) - {"name"}) <= RESTRICTED_VOLUMES, name
        for container in containers(pod):
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert context["readOnlyRootFilesystem"] is True, name


def test_every_container_says_what_it_needs(found):
    for name, pod in pods(found).items():
        for container in containers(pod):
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys(), name
            assert "memory" in resources["limits"], name
            assert "cpu" not in resources["limits"], name
            assert _bytes(resources["requests"]["memory"]) <= _bytes(resources["limits"]["memory"]), name


def test_one_pod_has_few_rights_at_the_api_server(found):
    for name, pod in pods(found).items():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["serviceAccountName"] in of_kind(found, "ServiceAccount"), name
        given = [v for v in pod["spec"].get("volumes", []) if "serviceAccountToken" in str(v)]
        assert bool(given) == (name == "kefu-idle-first"), name
    for role in of_kind(found, "Role").values():
        assert {(*rule["apiGroups"], *rule["resources"]): set(rule["verbs"]) for rule in role["rules"]} == {
            ("", "pods"): {"list", "patch"},
            ("metrics.k8s.io", "pods"): {"list"},
        }
    assert not of_kind(found, "ClusterRole")


def test_idle_pods_are_sought_among_those_that_are_scaled():
    found = render("production")
    command = pods(found)["kefu-idle-first"]["spec"]["containers"][0]["command"]
    instance, components = command[command.index("--selector") + 1].split(",", 1)
    assert components == "app.kubernetes.io/component in (actions,gateway,worker)"
    scaled = of_kind(found, "ScaledObject")
    assert set(scaled) == {f"kefu-{name}" for name in ("gateway", "worker", "actions")}
    for name in scaled:
        labels = pods(found)[name]["metadata"]["labels"]
        assert instance == f"app.kubernetes.io/instance={labels['app.kubernetes.io/instance']}"


def test_probes_tell_starting_busy_and_dead_apart(found):
    for name, deployment in of_kind(found, "Deployment").items():
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        ports = {port["name"] for port in container["ports"]}
        paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        assert [paths[kind]["path"] for kind in paths] == ["/livez", "/readyz", "/livez"], name
        assert {each["port"] for each in paths.values()} <= ports, name
        alive, ready = container["livenessProbe"], container["readinessProbe"]
        patience = alive["periodSeconds"] * alive["failureThreshold"]
        assert patience >= 60 > ready["periodSeconds"] * ready["failureThreshold"], name


def test_the_grace_period_is_the_sum_of_its_parts():
    manifests = render("laptop", worker={"drainSeconds": 33, "preStopSeconds": 4, "stopMarginSeconds": 7})
    spec = pods(manifests)["kefu-worker"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 44
    assert spec["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 4}}}
    assert env_of(spec["containers"][0])["KEFU_DRAIN_S"] == "33"


def test_an_update_takes_a_quarter_at_once_and_none_away():
    found = of_kind(render("production", worker={"maxSurge": 3}), "Deployment")
    rolling = {name: each["spec"]["strategy"]["rollingUpdate"] for name, each in found.items()}
    assert {name: each["maxSurge"] for name, each in rolling.items()} == {
        "kefu-gateway": "25%",
        "kefu-worker": 3,
        "kefu-actions": "25%",
    }
    assert {each["maxUnavailable"] for each in rolling.values()} == {0}


def test_nodes_can_be_drained_and_not_all_pods_go(found):
    budgets = of_kind(found, "PodDisruptionBudget")
    for name in ("kefu-gateway", "kefu-worker", "kefu-actions"):
        assert budgets[name]["spec"]["maxUnavailable"] >= 1
        selector = budgets[name]["spec"]["selector"]["matchLabels"]
        assert selector.items() <= pods(found)[name]["metadata"]["labels"].items()


def test_services_find_pods_and_ports(found):
    templates = pods(found)
    for name, service in of_kind(found, "Service").items():
        pod = templates[name]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_addresses_in_settings_are_those_of_services(found):
    services = of_kind(found, "Service")
    for pod in pods(found).values():
        for container in containers(pod):
            for value in env_of(container).values():
                for host, port in re.findall(r"(?:^|//)(kefu-[a-z]+):(\d+)", value):
                    assert int(port) in [each["port"] for each in services[host]["spec"]["ports"]]


def test_two_releases_in_one_namespace_share_no_name():
    names = [
        {(each["kind"], each["metadata"]["name"]) for each in render("staging", release=release)}
        for release in ("kefu", "other")
    ]
    assert not names[0] & names[1]


def test_streams_are_not_buffered_and_only_socketio_sticks():
    ingresses = of_kind(render("production", ingress={"socketio": True}), "Ingress")
    plain, sticky = ingresses["kefu-gateway"], ingresses["kefu-gateway-socketio"]
    prefix = "nginx.ingress.kubernetes.io/"
    for each in (plain, sticky):
        assert each["metadata"]["annotations"][prefix + "proxy-buffering"] == "off"
        assert int(each["metadata"]["annotations"][prefix + "proxy-read-timeout"]) > 60
    assert sticky["metadata"]["annotations"][prefix + "affinity"] == "cookie"
    assert prefix + "affinity" not in plain["metadata"]["annotations"]
    assert [path["path"] for path in sticky["spec"]["rules"][0]["http"]["paths"]] == ["/socket.io/"]


@pytest.mark.parametrize("name", ["staging", "production"])
def test_ingress_exposes_neither_probes_nor_metrics(name):
    for each in of_kind(render(name, ingress={"socketio": True}), "Ingress").values():
        for rule in each["spec"]["rules"]:
            paths = [(path["pathType"], path["path"]) for path in rule["http"]["paths"]]
            assert not [path for path in INSIDE if _routed(paths, path)]
            if each["metadata"]["name"] == "kefu-gateway":
                assert all(_routed(paths, path) for path in routes_of_the_gateway())


def _routed(paths, asked):
    """Return whether a path leads somewhere, as Kubernetes defines the types."""
    return any(asked == path or (kind == "Prefix" and asked.startswith(path)) for kind, path in paths)


def test_three_zones_hold_alike_many_pods():
    for name in ("kefu-gateway", "kefu-worker", "kefu-actions"):
        constraints = pods(render("production"))[name]["spec"]["topologySpreadConstraints"]
        zone = next(each for each in constraints if each["topologyKey"] == "topology.kubernetes.io/zone")
        assert (zone["maxSkew"], zone["whenUnsatisfiable"]) == (1, "DoNotSchedule")


def _bytes(quantity):
    number, unit = re.fullmatch(r"([\d.]+)(Mi|Gi)", quantity).groups()
    return Decimal(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


def test_merging_is_helms():
    over = {"worker": {"env": {"KEFU_IDLE_S": "60"}}, "redis": {"ports": [6380]}}
    with helm.Chart.load(CHART) as chart:
        ours = chart.merge_values(merged(values_of("staging"), over))
        theirs = merged(merged(chart.values, values_of("staging")), over)
    assert ours == theirs


def test_keda_asks_kafka_as_itself_and_gets_its_name_where_it_looks():
    found = render("staging")
    triggers = of_kind(found, "ScaledObject")["kefu-worker"]["spec"]["triggers"]
    kafka = next(trigger for trigger in triggers if trigger["type"] == "kafka")
    # Source: KEDA 2.21, pkg/scalers/kafka_scaler.go: user name and password come from the authentication alone.
    assert not {"username", "password", "ca"} & kafka["metadata"].keys()
    parts = of_kind(found, "TriggerAuthentication")["kefu-kafka"]["spec"]["secretTargetRef"]
    assert {part["parameter"]: part["name"] for part in parts} == {
        "username": "kefu-keda",
        "password": "kefu-keda",
        "ca": "kafka-ca",
    }
    assert env_of(pods(found)["kefu-topics"]["spec"]["containers"][0])["KEFU_ACL_SCALER"] == "kefu-scaler"
