"""Alerts and dashboard: Prometheus can read them, and the metrics and labels that they query exist."""

import json
import re

import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY

import kefu.metrics
from tests.chart.rendering import CHART, ROOT, manifests, merged, of_kind, render, texts, values_of
from tests.chart.tools import run, tool

RULES = CHART / "rules" / "kefu.yaml"
DASHBOARD = CHART / "dashboards" / "kefu.json"
FOREIGN = {"up", "process_resident_memory_bytes"}  # metrics of Prometheus and of its Python client
KUBE_STATE = "kube_"


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels():
    return json.loads(DASHBOARD.read_text())["panels"]


def expressions():
    """Return each expression of rules and dashboard, as Prometheus gets it."""
    texts = [rule["expr"] for rule in rules()]
    texts += [target["expr"] for panel in panels() for target in panel["targets"]]
    return [expression.replace("$namespace", ".*") for expression in texts]


def test_expressions_of_alerts_and_dashboard_are_promql():
    for expression in expressions():
        assert promql_parser.parse(expression)
    with pytest.raises(ValueError):
        promql_parser.parse("sum by (le) rate(x[5m])")


def test_metrics_of_alerts_and_dashboard_exist():
    """Kefu exports each of them, a rule records it, or Kubernetes and Prometheus have it."""
    exported = {sample for family in REGISTRY.collect() for sample in _samples(family)}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for expression in expressions():
        bare = re.sub(r'"[^"]*"|\{[^}]*\}|\b(by|on) \([^)]*\)|\[[^]]*\]', "", expression)
        names = set(re.findall(r"\b(?:kefu|kube|process)[a-z_:0-9]*|\bup\b", bare))
        assert names
        unknown = {name for name in names - exported - recorded - FOREIGN if not name.startswith(KUBE_STATE)}
        assert unknown == set(), expression


def test_labels_of_alerts_and_dashboard_exist():
    labels = {name: set(getattr(metric, "_labelnames", ())) for name, metric in _metrics().items()}
    from_prometheus = {"namespace", "pod", "job", "le", "deployment", "service"}
    for expression in expressions():
        for metric, matchers in re.findall(r"\b(kefu_[a-z_]+)\{([^}]*)\}", expression):
            for label in re.findall(r"([a-z_]+)(?:=~|=|!=)", matchers):
                assert label in labels[_family(metric)] | from_prometheus, expression


def test_every_alert_has_severity_description_and_runbook():
    alerts = [rule for rule in rules() if "alert" in rule]
    assert {rule["alert"] for rule in alerts} == {
        "KefuAnswersSlow",
        "KefuErrors",
        "KefuLagGrowing",
        "KefuNoWorkers",
        "KefuDeadLetters",
        "KefuCandidateFails",
        "KefuNotReady",
        "KefuBackupLate",
    }
    for rule in alerts:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}


def installed(release="kefu", namespace="shop", name="staging"):
    """Return the rules that a release installs."""
    documents = list(manifests(texts(values_of(name), release, namespace=namespace)))
    return of_kind(documents, "PrometheusRule").popitem()[1]["spec"]


def test_chart_installs_the_rules_and_dashboard_of_its_files():
    """An installed rule has the same condition, and the label of its installation in addition."""
    own = [rule for group in installed()["groups"] for rule in group["rules"]]
    assert [_named(rule) for rule in own] == [_named(rule) for rule in rules()]
    for rule, common in zip(own, rules(), strict=True):
        assert rule["labels"] == {**common.get("labels", {}), "installation": "kefu"}
        assert rule.get("for") == common.get("for") and rule.get("annotations") == common.get("annotations")
    dashboard = of_kind(render("staging"), "ConfigMap")["kefu-dashboard"]["data"]["kefu.json"]
    assert json.loads(dashboard) == json.loads(DASHBOARD.read_text())


def test_installed_rules_query_only_their_own_installation():
    for group in installed("night", "shop")["groups"]:
        for rule in group["rules"]:
            selectors = _selectors(rule["expr"])
            assert selectors
            for labels in selectors:
                assert labels["namespace"] == "shop", rule
                own = {"service", "deployment", "cronjob", "installation"} & labels.keys()
                assert own and all("night-kefu" in labels[name] for name in own), rule


def test_backup_alert_matches_only_the_backup_cron_job():
    (expression,) = [rule["expr"] for rule in _rules(installed()) if rule.get("alert") == "KefuBackupLate"]
    (pattern,) = {labels["cronjob"] for labels in _selectors(expression)}
    made = of_kind(render("staging"), "CronJob")
    assert [name for name in made if re.fullmatch(pattern, name)] == ["kefu-backup"]


def with_candidate(name, active="blue"):
    """Return the manifests of a value set while both tracks run."""
    return list(manifests(texts(merged(values_of(name), {"release": {"candidate": True, "active": active}}))))


def test_prometheus_scrapes_the_services_that_rules_query():
    """Both tracks of a release are installed."""
    (pattern,) = {
        labels["service"] for rule in _rules(installed()) for labels in _selectors(rule["expr"]) if "service" in labels
    }
    documents = with_candidate("staging")
    served = [each for each in of_kind(documents, "Service").values()]
    assert len(served) > 5
    for service in served:
        assert re.fullmatch(pattern, service["metadata"]["name"])
        monitor = of_kind(documents, "ServiceMonitor")[
            f"kefu-{service['metadata']['labels']['app.kubernetes.io/component']}"
        ]
        assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/component"


def test_runbook_links_of_alerts_have_the_configured_address():
    where = {"rules": {"enabled": True, "runbooks": "https://git.example.com/kefu/ops/runbooks/"}}
    (spec,) = [each["spec"] for each in of_kind(render("staging", monitoring=where), "PrometheusRule").values()]
    pages = [rule["annotations"]["runbook_url"] for rule in _rules(spec) if "alert" in rule]
    assert pages and all(page.startswith("https://git.example.com/kefu/ops/runbooks/") for page in pages)
    assert all((ROOT / "ops" / "runbooks" / page.rpartition("/")[2]).is_file() for page in pages)


BESIDE = """
rule_files: [one.yaml, two.yaml, three.yaml]
evaluation_interval: 15s
group_eval_order: [kefu.records, kefu.alerts]
tests:
  - interval: 15s
    input_series:
      - series: 'kube_deployment_status_replicas_ready{namespace="shop",deployment="kefu-worker"}'
        values: 1x40
      - series: 'kube_deployment_spec_replicas{namespace="shop",deployment="kefu-worker"}'
        values: 1x40
      - series: 'kube_deployment_status_replicas_ready{namespace="shop",deployment="night-kefu-worker"}'
        values: 1x40
      - series: 'kube_deployment_spec_replicas{namespace="shop",deployment="night-kefu-worker"}'
        values: 3x40
      - series: 'kube_deployment_status_replicas_ready{namespace="shop",deployment="books-worker"}'
        values: 0x40
      - series: 'kube_deployment_spec_replicas{namespace="shop",deployment="books-worker"}'
        values: 9x40
      - series: 'up{namespace="books",job="gateway",service="gateway"}'
        values: 0x40
      - series: 'up{namespace="other",job="gateway",service="kefu-gateway"}'
        values: 0x40
      - series: 'kefu_turns_total{namespace="shop",job="worker",service="kefu-worker",outcome="answered"}'
        values: 0+100x40
      - series: 'kefu_turns_total{namespace="shop",job="worker",service="kefu-worker",outcome="failed"}'
        values: 0+5x40
      - series: 'kefu_turns_total{namespace="shop",job="worker",service="night-kefu-worker",outcome="answered"}'
        values: 0+9000x40
      - series: 'kefu_turns_total{namespace="other",job="worker",service="kefu-worker",outcome="answered"}'
        values: 0+9000x40
    alert_rule_test:
      - eval_time: 8m
        alertname: KefuNotReady
        exp_alerts:
          - exp_labels: {severity: page, namespace: shop, deployment: night-kefu-worker, installation: night-kefu}
            exp_annotations:
              summary: Pods of night-kefu-worker are not ready.
              description: /readyz of the pod says what is missing.
              runbook_url: ops/runbooks/not-ready.md
          - exp_labels: {severity: page, namespace: other, job: gateway, service: kefu-gateway, installation: kefu}
            exp_annotations:
              summary: Pods of gateway are not ready.
              description: /readyz of the pod says what is missing.
              runbook_url: ops/runbooks/not-ready.md
      - eval_time: 8m
        alertname: KefuErrors
        exp_alerts:
          - exp_labels: {severity: page, namespace: shop, installation: kefu}
            exp_annotations:
              summary: More than one request or turn in a hundred fails.
              description: 4.762% fail.
              runbook_url: ops/runbooks/errors.md
"""


def test_each_of_three_installations_alerts_for_itself_once(tmp_path):
    """They share a Prometheus with Deployments of others, which raise no alert."""
    for name, where in {"one": ("kefu", "shop"), "two": ("night", "shop"), "three": ("kefu", "other")}.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(installed(*where)))
    (tmp_path / "test.yaml").write_text(BESIDE)
    status, output = run(tool("promtool"), "test", "rules", "test.yaml", cwd=tmp_path)
    assert status == 0, output


def test_prometheus_adapter_gives_the_metrics_that_hpas_need():
    own = {name: {"autoscaling": {"kind": "hpa"}} for name in ("gateway", "worker")}
    hpas = of_kind(render("production", **own), "HorizontalPodAutoscaler")
    metrics = [metric for hpa in hpas.values() for metric in hpa["spec"]["metrics"]]
    given = yaml.safe_load((CHART / "prometheus-adapter.yaml").read_text())["rules"]
    external = {rule["name"]["as"]: rule for rule in given["external"]}
    asked = [metric["external"]["metric"] for metric in metrics if metric["type"] == "External"]
    assert {metric["name"] for metric in asked} == set(external)
    (own_of_pods,) = (re.search('__name__=~"([^"]+)"', rule["seriesQuery"])[1] for rule in given["custom"])
    assert {m["pods"]["metric"]["name"] for m in metrics if m["type"] == "Pods"} == set(own_of_pods.split("|"))
    for metric in asked:
        _answered(external[metric["name"]], metric["selector"]["matchLabels"])


def _answered(rule, labels):
    """Check that a rule's query, built as the adapter builds it, selects a record that has these labels.

    Source: sigs.k8s.io/prometheus-adapter, pkg/naming/metrics_query.go, BuildExternal.
    """
    discovered = promql_parser.parse(rule["seriesQuery"])
    records = {each["record"]: each for each in _rules(installed()) if "record" in each}
    assert rule["resources"] == {"overrides": {"namespace": {"resource": "namespace"}}}
    matchers = ",".join(f'{name}="{value}"' for name, value in {**labels, "namespace": "shop"}.items())
    query = rule["metricsQuery"].replace("<<.Series>>", discovered.name).replace("<<.LabelMatchers>>", matchers)
    assert promql_parser.parse(query)
    expression = records[discovered.name]["expr"]
    assert labels["installation"] == records[discovered.name]["labels"]["installation"]
    assert "(namespace, job" in expression and set(labels) == {"installation", "job"}


@pytest.mark.parametrize("active", ["blue", "green"])
def test_keda_scales_each_track_by_its_own_series(active):
    """KEDA takes an empty answer of Prometheus as an error, not as 0."""
    documents = with_candidate("production", active)
    scaled = {name: each["spec"] for name, each in of_kind(documents, "ScaledObject").items()}
    components = {f"kefu-{base}{suffix}" for base in ("gateway", "worker", "actions") for suffix in ("", "-green")}
    assert set(scaled) == components
    for name, spec in scaled.items():
        triggers = [trigger["metadata"] for trigger in spec["triggers"] if trigger["type"] == "prometheus"]
        assert bool(triggers) == ("fallback" in spec) == ("actions" not in name)
        for trigger in triggers:
            (labels,) = _selectors(trigger["query"])
            assert labels["namespace"] == "shop" and labels["job"] == name.removeprefix("kefu-")
            assert labels.get("installation") == "kefu" or re.fullmatch(labels["service"], "kefu-gateway")
            assert trigger["ignoreNullValues"] == "false"  # an empty answer would count as 0


def test_gateways_scale_on_event_loop_lag_not_response_times():
    """Response times also grow when Kafka is slow, and more gateways would not help."""
    recorded = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}
    spec = of_kind(render("production"), "ScaledObject")["kefu-gateway"]["spec"]
    asked = "".join(str(trigger) for trigger in spec["triggers"])
    asked += "".join(expression for record, expression in recorded.items() if record in asked)
    assert "kefu_loop_late_seconds" in asked and "kefu_accept" not in asked and "kefu_http" not in asked


def test_dashboard_panels_do_not_overlap():
    occupied = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + 8)}
        assert not cells & occupied and max(x for x, _ in cells) < 24
        occupied |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_alerts_pass_their_promtool_tests():
    """kefu.test.yaml gives series, and the alerts that must fire for them."""
    for command in (["check", "rules", RULES.name], ["test", "rules", "kefu.test.yaml"]):
        status, output = run(tool("promtool"), *command, cwd=RULES.parent)
        assert status == 0, output


def _rules(spec):
    return [rule for group in spec["groups"] for rule in group["rules"]]


def _named(rule):
    return rule.get("alert") or rule["record"]


def _selectors(expression):
    """Return the labels of each series that an expression selects."""
    selectors = []

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            selectors.append({matcher.name: matcher.value for matcher in node.matchers.matchers})

    promql_parser.walk(promql_parser.parse(expression), visit)
    return selectors


def _metrics():
    return {metric._name: metric for metric in vars(kefu.metrics).values() if hasattr(metric, "_name")}


def _family(sample):
    return re.sub(r"_(total|bucket|count|sum)$", "", sample)


def _samples(family):
    kind = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(family.type, ("",))
    return {family.name + suffix for suffix in kind}
