"""Renders the chart by Helm itself, as `helm template` does, and reads what comes of it."""

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
# The package of the last chart that was installed somewhere: what it made must be possible to upgrade.
PREVIOUS = max((ROOT / "tests" / "chart" / "released").glob("kefu-*.tgz"), key=lambda path: _numbers(path.stem))
SETS = ("laptop", "staging", "production")
RELEASE, NAMESPACE = "kefu", "shop"
# For tests that are about something else than a shop or an action server that is slow: on a busy machine all are.
PATIENCE = {
    "worker": {"KEFU_ACTION_TIMEOUT_S": "12", "KEFU_TURN_DEADLINE_S": "18"},
    "actions": {"KEFU_SHOP_TIMEOUT_S": "9"},
}
Manifest = dict[str, Any]


def values_of(name: str, chart: Path = CHART) -> dict[str, Any]:
    """Return the values of a set that lies in a chart."""
    path = f"values/{name}.yaml"
    if chart.is_dir():
        return yaml.safe_load((chart / path).read_text())
    with tarfile.open(chart) as package:
        return yaml.safe_load(package.extractfile(f"kefu/{path}").read())


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `over` put on it, as Helm does with one file after the other."""
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
    """Return each template's output by its path; raises helm.HelmError with the sentence of what is refused.

    A revision of more than 1 is an upgrade.
    """
    how = {"revision": revision, "is_install": revision == 1, "is_upgrade": revision > 1}
    return _loaded(chart).render(dict(values), name=release, namespace=namespace, **how)


@cache
def _loaded(chart: Path) -> helm.Chart:
    return helm.Chart.load(chart)  # a folder or a package


def render(name: str, release: str = RELEASE, **over: Any) -> list[Manifest]:
    """Return the manifests of a value set with something put on it."""
    return list(manifests(texts(merged(values_of(name), over), release)))


def manifests(rendered: Mapping[str, str]) -> Iterator[Manifest]:
    """Return the documents of rendered templates; the notes are for people."""
    for path, text in rendered.items():
        if not path.endswith("NOTES.txt"):
            yield from (each for each in yaml.safe_load_all(text) if each)


def of_kind(found: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Return the manifests of a kind by name."""
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def pods(found: list[Manifest]) -> dict[str, Manifest]:
    """Return the pod template of everything that makes pods, by the owner's name."""
    found_in = {"CronJob": lambda spec: spec["jobTemplate"]["spec"]["template"]}
    makers = [each for each in found if each["kind"] in ("Deployment", "StatefulSet", "Job", "DaemonSet", "CronJob")]
    templates = {each["kind"]: found_in.get(each["kind"], lambda spec: spec["template"]) for each in makers}
    return {each["metadata"]["name"]: templates[each["kind"]](each["spec"]) for each in makers}


def containers(pod: Manifest) -> list[Manifest]:
    """Return a pod's containers, those that run before it included."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


INSIDE = {"/livez", "/readyz", "/metrics"}  # of every process, for the cluster


def routes_of_the_gateway() -> set[str]:
    """Return the paths that the gateway serves, by its code, without those of INSIDE."""
    found = set()
    for path in (ROOT / "kefu" / "gateway").rglob("*.py"):
        text = path.read_text()
        (before,) = re.findall(r'Blueprint\("\w+", url_prefix="([^"]+)"\)', text) or [""]
        found |= {before + route for route in re.findall(r'@\w+\.(?:get|post|put|delete|websocket)\("([^"]+)"', text)}
    assert found > INSIDE
    return found - INSIDE


def env_of(container: Manifest) -> dict[str, str]:
    """Return the environment that a container has from the chart itself."""
    return {each["name"]: each["value"] for each in container.get("env", [])}
