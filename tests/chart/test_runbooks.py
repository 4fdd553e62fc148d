"""Everything that runbooks name exists in the chart, on both tracks: objects, labels, jobs, values and ports."""

import re

import pytest
import yaml

from tests.chart.rendering import CHART, ROOT, manifests, merged, of_kind, pods, texts, values_of

RUNBOOKS = sorted((ROOT / "ops" / "runbooks").glob("*.md"))
PAGES = {path.stem: " ".join(path.read_text().split()) for path in RUNBOOKS}
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
each_page = pytest.mark.parametrize("text", PAGES.values(), ids=PAGES)


@pytest.fixture(scope="module")
def documents():
    """Production's manifests in the middle of a release."""
    return list(manifests(texts(merged(values_of("production"), {"release": {"candidate": True}}))))


@each_page
def test_objects_of_kubectl_commands_in_runbooks_exist(documents, text):
    kinds = {"deploy": "Deployment", "cronjob": "CronJob", "scaledobject": "ScaledObject"}
    for kind, name in re.findall(r"\b(deploy|cronjob|scaledobject)[/ ](kefu-[a-z-]+)", text):
        assert name in of_kind(documents, kinds[kind]), name


@each_page
def test_label_selectors_in_runbooks_match_both_tracks(documents, text):
    components = {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in pods(documents).values()}
    named = re.findall(r"app\.kubernetes\.io/component=([a-z-]+)", text)
    assert not [each for each in named if f"{each}-green" in components], "the active track may be green"
    for each in re.findall(r"component in \(([^)]+)\)", text):
        named += each.split(",")
    assert set(named) <= components


@each_page
def test_prometheus_jobs_in_runbooks_match_both_tracks(documents, text):
    scraped = {
        each["metadata"]["labels"]["app.kubernetes.io/component"] for each in of_kind(documents, "Service").values()
    }
    for sign, pattern in re.findall(r'\bjob(=~?)"([^"]+)"', text):
        assert sign == "=~", "the active track may be green"
        matches = {job for job in scraped if re.fullmatch(pattern, job)}
        assert matches and {job.removesuffix("-green") + "-green" for job in matches} <= matches


@each_page
def test_runbook_names_the_deployments_of_both_tracks(text):
    named = set(re.findall(r"\bdeploy/(kefu-[a-z-]+)", text))
    assert {name.removesuffix("-green") + "-green" for name in named} <= named
    assert not named or "python -m ops.release status" in text


@each_page
def test_chart_values_in_runbooks_exist(text):
    for path in re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)+)`", text):
        if path.split(".")[0] in VALUES and not path.endswith(".yaml"):
            place = VALUES
            for key in path.split("."):
                assert key in place, path
                place = place[key]


def test_not_ready_runbook_names_the_ports_of_the_probes(documents):
    ports = {}
    for name, deployment in of_kind(documents, "Deployment").items():
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        numbers = {port["name"]: port["containerPort"] for port in container["ports"]}
        ports[name.split("-")[1]] = numbers[container["readinessProbe"]["httpGet"]["port"]]
    asked = f"127.0.0.1:{ports['gateway']}/readyz`, with {ports['worker']} for a worker and {ports['actions']} for an"
    assert asked in PAGES["not-ready"]
