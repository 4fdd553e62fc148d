"""ops/compose.yml is valid and complete, and runs the same processes as the chart."""

import json
import re
import sys

import crossplane
import jsonschema
import pytest
import yaml

from tests.chart.rendering import INSIDE, ROOT, containers, pods, render, routes_of_the_gateway
from tests.chart.test_settings import missing_settings, unknown_settings
from tests.chart.tools import run, tool

FILE = ROOT / "ops" / "compose.yml"
COMPOSE = yaml.safe_load(FILE.read_text())
SERVICES = COMPOSE["services"]
OWN = ("topics", "shop", "actions", "worker", "gateway")
SCHEMA = json.loads((ROOT / "tests" / "chart" / "schemas" / "compose-spec.json").read_text())
NGINX = ROOT / "ops" / "compose" / "nginx.conf"


def test_compose_file_fits_the_compose_schema():
    """The schema refuses a misspelt key."""
    jsonschema.validate(COMPOSE, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**COMPOSE, "services": {"x": {"imgae": "y"}}}, SCHEMA)


def test_compose_services_have_memory_limits_and_health_checks():
    for name, service in SERVICES.items():
        assert re.fullmatch(r"\d+(m|g)", service["mem_limit"]), name
        assert "healthcheck" in service or name == "topics", name
    assert SERVICES["worker"]["deploy"]["replicas"] == 3


def test_compose_services_wait_for_healthy_dependencies():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            ends = "healthcheck" not in SERVICES[other]
            assert how["condition"] == ("service_completed_successfully" if ends else "service_healthy"), name


def test_compose_file_sets_no_unknown_or_missing_setting():
    for name in OWN:
        environment = {key: str(value) for key, value in SERVICES[name]["environment"].items()}
        assert missing_settings(name, environment) == "", name
        assert unknown_settings(environment) == set(), name


def test_compose_file_runs_the_commands_of_the_chart():
    chart = {
        name.removeprefix("kefu-"): containers(pod)[-1]["command"] for name, pod in pods(render("staging")).items()
    }
    assert {name: SERVICES[name]["command"] for name in OWN} == {name: chart[name] for name in OWN}
    assert chart.keys() - set(OWN) == {"prepull", "idle-first", "backup", "operator", "restore"}  # only in a cluster


def test_compose_file_runs_kefu_without_privileges():
    """Kefu's containers have a read-only root file system, no capabilities and an unprivileged user."""
    for name in OWN:
        service = SERVICES[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["user"] == "10001:10001", name
        assert (ROOT / service["build"]["dockerfile"]).is_file(), name


def test_only_nginx_and_grafana_publish_loopback_ports():
    published = {name: port for name, service in SERVICES.items() for port in service.get("ports", [])}
    assert set(published) == {"nginx", "grafana"}
    assert all(port.startswith("127.0.0.1:") for port in published.values())


def test_volumes_of_the_compose_file_exist():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or (FILE.parent / source).exists(), volume


def test_nginx_file_is_valid_and_switches_buffering_off():
    parsed = crossplane.parse(str(NGINX))
    assert parsed["errors"] == []
    text = NGINX.read_text()
    assert "proxy_buffering off;" in text and "proxy_http_version 1.1;" in text
    assert re.search(r"server (\w+):(\d+)", text).groups() == ("gateway", "8080")


def test_nginx_file_asks_dns_for_the_gateway_every_5_seconds():
    """A recreated gateway has another address."""
    (http,) = (
        each["block"] for each in crossplane.parse(str(NGINX))["config"][0]["parsed"] if each["directive"] == "http"
    )
    (upstream,) = (each["block"] for each in http if each["directive"] == "upstream")
    arguments = {each["directive"]: each["args"] for each in [*http, *upstream]}
    # Source: nginx, ngx_http_upstream_module: `resolve` needs a zone and a resolver. The free nginx has it from 1.27.3.
    assert "resolve" in arguments["server"] and arguments["zone"][0] == "gateway"
    assert arguments["resolver"][0] == "127.0.0.11" and "valid=5s" in arguments["resolver"]
    version = re.search(r":(\d+)\.(\d+)", SERVICES["nginx"]["image"]).groups()
    assert tuple(map(int, version)) > (1, 27)


def test_nginx_file_exposes_neither_probes_nor_metrics():
    http = next(each for each in crossplane.parse(str(NGINX))["config"][0]["parsed"] if each["directive"] == "http")
    (server,) = (each["block"] for each in http["block"] if each["directive"] == "server")
    places = {" ".join(each["args"]): each["block"] for each in server if each["directive"] == "location"}
    assert places["/"] == [{"directive": "return", "line": places["/"][0]["line"], "args": ["404"]}]
    open_to_all = {place for place, block in places.items() if not {"return", "deny"} & {b["directive"] for b in block}}
    assert open_to_all == {"= /", "/static/", "/v1/"}
    prefixes = tuple(open_to_all - {"= /"})
    assert all(path == "/" or path.startswith(prefixes) for path in routes_of_the_gateway())
    assert not [path for path in INSIDE if path.startswith(prefixes)]


def test_prometheus_of_compose_scrapes_every_process():
    """Prometheus asks Docker's DNS for the service's name, at the port of its probe."""
    jobs = yaml.safe_load((ROOT / "ops" / "compose" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["dns_sd_configs"][0] for job in jobs}
    assert set(targets) == {"gateway", "worker", "actions", "shop"}
    for name, where in targets.items():
        probe = SERVICES[name]["healthcheck"]["test"][-1]
        assert where["names"] == [name] and f":{where['port']}/readyz" in probe


def test_prometheus_accepts_the_file_of_compose(tmp_path):
    text = (ROOT / "ops" / "compose" / "prometheus.yml").read_text()
    rules = ROOT / "ops" / "charts" / "kefu" / "rules"
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus/rules", str(rules)))
    status, output = run(tool("promtool"), "check", "config", tmp_path / "prometheus.yml")
    assert status == 0, output


def test_yamllint_finds_nothing_in_the_yaml_files():
    assert run(sys.executable, "-m", "yamllint", "-s", "ops", ".github", ".gitlab-ci.yml") == (0, "")
