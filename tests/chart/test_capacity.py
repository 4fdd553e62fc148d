"""The simulator's production installation equals the one that Helm installs."""

from dataclasses import replace

import pytest
import yaml

from ops.capacity.hpa import Policy, Rules, Scaling
from ops.capacity.inputs import Kind, cores, from_values, production
from tests.chart.rendering import CHART, RELEASE, merged, of_kind, pods, render, values_of

NAMES = ("worker", "gateway", "actions")


def rules(behavior):
    policies = tuple(Policy(each["type"], each["value"], each["periodSeconds"]) for each in behavior["policies"])
    return Rules(policies, behavior["stabilizationWindowSeconds"], behavior.get("selectPolicy", "Max"))


@pytest.fixture(scope="module")
def manifests():
    return render("production")


@pytest.fixture(scope="module")
def scaled(manifests):
    """Each component's ScaledObject."""
    objects = of_kind(manifests, "ScaledObject")
    return {name: objects[f"{RELEASE}-{name}"]["spec"] for name in NAMES}


def threshold(scaled, name, of):
    """Return the threshold of the trigger whose metadata contain a text."""
    (trigger,) = (each for each in scaled[name]["triggers"] if of in str(each["metadata"]))
    return float(trigger["metadata"].get("threshold") or trigger["metadata"]["lagThreshold"])


@pytest.mark.parametrize("name", NAMES)
def test_simulator_scales_as_the_charts_scaled_objects_do(manifests, scaled, name):
    """Compared are the limits, the scaling policies, the CPU requests and the CPU targets of production."""
    spec = scaled[name]
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (cpu,) = (each["metadata"]["value"] for each in spec["triggers"] if each["type"] == "cpu")
    pod = of_kind(manifests, "Deployment")[f"{RELEASE}-{name}"]["spec"]["template"]["spec"]
    scaling = Scaling(
        low=spec["minReplicaCount"],
        high=spec["maxReplicaCount"],
        up=rules(behavior["scaleUp"]),
        down=rules(behavior["scaleDown"]),
    )
    request = cores(pod["containers"][0]["resources"]["requests"]["cpu"])
    assert getattr(production(), name) == Kind(scaling, cores=request, cpu_percent=int(cpu))


def test_simulator_thresholds_equal_the_charts_triggers(manifests, scaled):
    """Thresholds of lag in messages and seconds, of streams, and of late event loops; the partitions, too."""
    shape = production()
    (job,) = (pod for name, pod in pods(manifests).items() if name.endswith("topics"))
    environment = {each["name"]: each.get("value") for each in job["spec"]["containers"][0]["env"]}
    assert shape.partitions == int(environment["KEFU_TOPIC_PARTITIONS"])
    assert shape.lag_threshold == threshold(scaled, "worker", "lagThreshold")
    assert shape.lag_s == threshold(scaled, "worker", "kefu:inbox_lag_seconds")
    assert shape.connections_a_gateway == threshold(scaled, "gateway", "kefu_streams_open")
    assert shape.late_ms == threshold(scaled, "gateway", "_p99_ms")


def test_simulator_reads_the_values_of_an_operators_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("kafka: {partitions: 256}\nworker: {autoscaling: {max: 256, lagSeconds: 20}}\n")
    worker = production().worker
    more = replace(worker, scaling=replace(worker.scaling, high=256))
    assert production(path) == replace(production(), partitions=256, worker=more, lag_s=20)


def test_simulator_without_prometheus_ignores_seconds_of_lag():
    """The chart then has no trigger on the seconds that the oldest message has waited."""
    values = merged(yaml.safe_load((CHART / "values.yaml").read_text()), values_of("production"))
    assert from_values(merged(values, {"worker": {"autoscaling": {"prometheus": ""}}})).lag_s == 0
