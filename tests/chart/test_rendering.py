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
def test_every_manifest_is_valid_for_kubernetes(manifests, version):
    """The versions are the oldest that the chart allows, a middle one and the newest known."""
    for manifest in manifests:
        schemas.check(manifest, version)
    assert len(manifests) > 25


def test_misspelt_key_in_a_manifest_is_found(manifests):
    for manifest in manifests:
        if "spec" in manifest:
            wrong = copy.deepcopy(manifest)
            wrong["spec"]["replicsa"] = 3
            with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
                schemas.check(wrong, "1.34")


def test_manifest_of_an_unknown_kind_is_refused():
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        schemas.check({"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "x"}}, "1.34")


def test_helm_lint_finds_nothing():
    result = helm.lint(CHART, values_of("laptop"))
    assert [message for message in result["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("autoscaling", ["hpa", "keda"])
def test_manifests_of_hpa_and_keda_are_valid(autoscaling):
    """Either scales gateways, workers and action servers."""
    scaled = {"kind": autoscaling, "prometheus": "http://prometheus:9090"}
    own = {"gateway": {"autoscaling": scaled}}
    own |= {name: {"autoscaling": {"kind": autoscaling}} for name in ("worker", "actions")}
    manifests = render("production", **own)
    kind = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}[autoscaling]
    assert set(of_kind(manifests, kind)) == {"kefu-gateway", "kefu-worker", "kefu-actions"}
    for manifest in manifests:
        schemas.check(manifest, "1.34")
    deployments = of_kind(manifests, "Deployment")
    # With `replicas`, an upgrade would reset the number of pods during a surge.
    assert all("replicas" not in each["spec"] for each in deployments.values())


def test_hpa_doubles_at_once_and_shrinks_by_a_tenth_a_minute():
    hpa = of_kind(render("staging", worker={"autoscaling": {"kind": "hpa"}}), "HorizontalPodAutoscaler")["kefu-worker"]
    up, down = hpa["spec"]["behavior"]["scaleUp"], hpa["spec"]["behavior"]["scaleDown"]
    assert up["stabilizationWindowSeconds"] == 0
    assert {"type": "Percent", "value": 100, "periodSeconds": 15} in up["policies"]
    assert down["stabilizationWindowSeconds"] == 300
    assert down["policies"] == [{"type": "Percent", "value": 10, "periodSeconds": 60}]


def test_workers_scale_on_messages_and_seconds_of_inbox_lag():
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


def test_pods_meet_pod_security_restricted(manifests):
    """`restricted` is the strictest of Kubernetes' Pod Security Standards."""
    for name, pod in pods(manifests).items():
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


def test_every_container_has_requests_and_a_memory_limit(manifests):
    """None has a CPU limit."""
    for name, pod in pods(manifests).items():
        for container in containers(pod):
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys(), name
            assert "memory" in resources["limits"], name
            assert "cpu" not in resources["limits"], name
            assert _bytes(resources["requests"]["memory"]) <= _bytes(resources["limits"]["memory"]), name


def test_only_the_idle_first_pod_may_call_the_api_server(manifests):
    """The pod may list and patch pods, and list their metrics."""
    for name, pod in pods(manifests).items():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["serviceAccountName"] in of_kind(manifests, "ServiceAccount"), name
        given = [v for v in pod["spec"].get("volumes", []) if "serviceAccountToken" in str(v)]
        assert bool(given) == (name == "kefu-idle-first"), name
    for role in of_kind(manifests, "Role").values():
        assert {(*rule["apiGroups"], *rule["resources"]): set(rule["verbs"]) for rule in role["rules"]} == {
            ("", "pods"): {"list", "patch"},
            ("metrics.k8s.io", "pods"): {"list"},
        }
    assert not of_kind(manifests, "ClusterRole")


def test_idle_first_selects_exactly_the_autoscaled_pods():
    manifests = render("production")
    command = pods(manifests)["kefu-idle-first"]["spec"]["containers"][0]["command"]
    instance, components = command[command.index("--selector") + 1].split(",", 1)
    assert components == "app.kubernetes.io/component in (actions,gateway,worker)"
    scaled = of_kind(manifests, "ScaledObject")
    assert set(scaled) == {f"kefu-{name}" for name in ("gateway", "worker", "actions")}
    for name in scaled:
        labels = pods(manifests)[name]["metadata"]["labels"]
        assert instance == f"app.kubernetes.io/instance={labels['app.kubernetes.io/instance']}"


def test_liveness_probe_is_more_patient_than_readiness_probe(manifests):
    """A pod that does not answer gets no new requests after less than 60 s, and is restarted after 60 s or more."""
    for name, deployment in of_kind(manifests, "Deployment").items():
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        ports = {port["name"] for port in container["ports"]}
        paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        assert [paths[kind]["path"] for kind in paths] == ["/livez", "/readyz", "/livez"], name
        assert {each["port"] for each in paths.values()} <= ports, name
        alive, ready = container["livenessProbe"], container["readinessProbe"]
        patience = alive["periodSeconds"] * alive["failureThreshold"]
        assert patience >= 60 > ready["periodSeconds"] * ready["failureThreshold"], name


def test_grace_period_is_the_sum_of_pre_stop_drain_and_margin():
    manifests = render("laptop", worker={"drainSeconds": 33, "preStopSeconds": 4, "stopMarginSeconds": 7})
    spec = pods(manifests)["kefu-worker"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 44
    assert spec["containers"][0]["lifecycle"] == {"preStop": {"sleep": {"seconds": 4}}}
    assert env_of(spec["containers"][0])["KEFU_DRAIN_S"] == "33"


def test_rolling_update_adds_a_quarter_before_it_removes_pods():
    """`maxSurge` is a value of the chart; no pod may be unavailable."""
    manifests = of_kind(render("production", worker={"maxSurge": 3}), "Deployment")
    rolling = {name: each["spec"]["strategy"]["rollingUpdate"] for name, each in manifests.items()}
    assert {name: each["maxSurge"] for name, each in rolling.items()} == {
        "kefu-gateway": "25%",
        "kefu-worker": 3,
        "kefu-actions": "25%",
    }
    assert {each["maxUnavailable"] for each in rolling.values()} == {0}


def test_disruption_budgets_select_pods_and_let_one_go(manifests):
    budgets = of_kind(manifests, "PodDisruptionBudget")
    for name in ("kefu-gateway", "kefu-worker", "kefu-actions"):
        assert budgets[name]["spec"]["maxUnavailable"] >= 1
        selector = budgets[name]["spec"]["selector"]["matchLabels"]
        assert selector.items() <= pods(manifests)[name]["metadata"]["labels"].items()


def test_services_select_existing_pods_and_ports(manifests):
    templates = pods(manifests)
    for name, service in of_kind(manifests, "Service").items():
        pod = templates[name]
        assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_addresses_in_settings_are_ports_of_existing_services(manifests):
    services = of_kind(manifests, "Service")
    for pod in pods(manifests).values():
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


def test_ingress_buffers_no_stream_and_only_socketio_is_sticky():
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
    """Return whether one of the paths matches, as Kubernetes defines Exact and Prefix."""
    return any(asked == path or (kind == "Prefix" and asked.startswith(path)) for kind, path in paths)


def test_pods_are_spread_evenly_over_zones():
    for name in ("kefu-gateway", "kefu-worker", "kefu-actions"):
        constraints = pods(render("production"))[name]["spec"]["topologySpreadConstraints"]
        zone = next(each for each in constraints if each["topologyKey"] == "topology.kubernetes.io/zone")
        assert (zone["maxSkew"], zone["whenUnsatisfiable"]) == (1, "DoNotSchedule")


def _bytes(quantity):
    number, unit = re.fullmatch(r"([\d.]+)(Mi|Gi)", quantity).groups()
    return Decimal(number) * {"Mi": 2**20, "Gi": 2**30}[unit]


def test_values_are_merged_as_helm_does():
    """`tests.chart.rendering.merged` and Helm give the same."""
    over = {"worker": {"env": {"KEFU_IDLE_S": "60"}}, "redis": {"ports": [6380]}}
    with helm.Chart.load(CHART) as chart:
        ours = chart.merge_values(merged(values_of("staging"), over))
        theirs = merged(merged(chart.values, values_of("staging")), over)
    assert ours == theirs


def test_keda_logs_in_to_kafka_with_its_own_user():
    """KEDA takes user name and password only from its TriggerAuthentication."""
    manifests = render("staging")
    triggers = of_kind(manifests, "ScaledObject")["kefu-worker"]["spec"]["triggers"]
    kafka = next(trigger for trigger in triggers if trigger["type"] == "kafka")
    # Source: KEDA 2.21, pkg/scalers/kafka_scaler.go: user name and password come from the authentication alone.
    assert not {"username", "password", "ca"} & kafka["metadata"].keys()
    parts = of_kind(manifests, "TriggerAuthentication")["kefu-kafka"]["spec"]["secretTargetRef"]
    assert {part["parameter"]: part["name"] for part in parts} == {
        "username": "kefu-keda",
        "password": "kefu-keda",
        "ca": "kafka-ca",
    }
    assert env_of(pods(manifests)["kefu-topics"]["spec"]["containers"][0])["KEFU_ACL_SCALER"] == "kefu-scaler"
