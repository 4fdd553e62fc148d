"""Renders the chart by Helm itself, as `helm template` does, and reads the manifests."""

import re
import tarfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "ops" / "charts" / "kefu"
# The package of the last chart that was installed somewhere. Its installations must be possible to upgrade.
PREVIOUS = max((ROOT / "tests" / "chart" / "released").glob("kefu-*.tgz"), key=lambda path: _numbers(path.stem))
SETS = ("laptop", "staging", "production")
RELEASE, NAMESPACE = "kefu", "shop"
# Longer timeouts of calls to the action server and the shop, which are slow on a busy machine. For all tests that are
# not about slowness.
PATIENCE = {
    "worker": {"KEFU_ACTION_TIMEOUT_S": "12", "KEFU_TURN_DEADLINE_S": "18"},
    "actions": {"KEFU_SHOP_TIMEOUT_S": "9"},
}
Manifest = dict[str, Any]


def values_of(name: str, chart: Path = CHART) -> dict[str, Any]:
    """Return the values of one of a chart's value sets."""
    path = f"values/{name}.yaml"
    if chart.is_dir():
        return yaml.safe_load((chart / path).read_text())
    with tarfile.open(chart) as package:
        return yaml.safe_load(package.extractfile(f"kefu/{path}").read())


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` overridden by `over`, as Helm merges one file of values after the other."""
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


def texts(
    values: Mapping[str, Any],
    release: str = RELEASE,
    chart: Path = CHART,
    revision: int = 1,
    namespace: str = NAMESPACE,
) -> dict[str, str]:
    """Return each template's output by its path. A revision of more than 1 is an upgrade.

    Raises:
        helm.HelmError: the chart refuses the values; the error contains the sentence that says why.
    """
    how = {"revision": revision, "is_install": revision == 1, "is_upgrade": revision > 1}
    return _loaded(chart).render(dict(values), name=release, namespace=namespace, **how)


@cache
def _loaded(chart: Path) -> helm.Chart:
    return helm.Chart.load(chart)  # a folder or a package


def render(name: str, release: str = RELEASE, **over: Any) -> list[Manifest]:
    """Return the manifests of a value set, overridden by `over`."""
    return list(manifests(texts(merged(values_of(name), over), release)))


def manifests(rendered: Mapping[str, str]) -> Iterator[Manifest]:
    """Yield the manifests of rendered templates, without Helm's notes, which are for people."""
    for path, text in rendered.items():
        if not path.endswith("NOTES.txt"):
            yield from (each for each in yaml.safe_load_all(text) if each)


def of_kind(documents: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Return the manifests of a kind by name."""
    return {each["metadata"]["name"]: each for each in documents if each["kind"] == kind}


def pods(documents: list[Manifest]) -> dict[str, Manifest]:
    """Return the pod template of each Deployment, StatefulSet, Job, DaemonSet and CronJob, by the owner's name."""
    kinds = ("Deployment", "StatefulSet", "Job", "DaemonSet", "CronJob")
    template_of = {"CronJob": lambda spec: spec["jobTemplate"]["spec"]["template"]}
    owners = [each for each in documents if each["kind"] in kinds]
    templates = {each["kind"]: template_of.get(each["kind"], lambda spec: spec["template"]) for each in owners}
    return {each["metadata"]["name"]: templates[each["kind"]](each["spec"]) for each in owners}


def containers(pod: Manifest) -> list[Manifest]:
    """Return a pod's init containers and containers."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


INSIDE = {"/livez", "/readyz", "/metrics"}  # paths of every process that are for the cluster only


def routes_of_the_gateway() -> set[str]:
    """Return the paths that the gateway serves, by its code, without those of INSIDE."""
    routes = set()
    for path in (ROOT / "kefu" / "gateway").rglob("*.py"):
        text = path.read_text()
        (before,) = re.findall(r'Blueprint\("\w+", url_prefix="([^"]+)"\)', text) or [""]
        routes |= {before + route for route in re.findall(r'@\w+\.(?:get|post|put|delete|websocket)\("([^"]+)"', text)}
    assert routes > INSIDE
    return routes - INSIDE


def env_of(container: Manifest) -> dict[str, str]:
    """Return the environment variables that the chart gives a container as plain values."""
    return {each["name"]: each["value"] for each in container.get("env", [])}
