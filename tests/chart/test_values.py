"""The chart's values: each is documented and in the schema, unknown keys and impossible values are refused."""

import json
import re
import sys

import helm_python as helm
import pytest
import yaml

from tests.chart.rendering import CHART, ROOT, SETS, merged, render, texts, values_of

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())


def test_chart_values_and_schema_have_the_same_keys():
    schema = set(_schema_paths(SCHEMA)) - {"global"}  # Helm itself passes `global`
    assert set(_paths(DEFAULTS, SCHEMA)) == schema


def test_every_object_of_the_values_schema_limits_its_keys():
    assert not [path for path, node in _objects(SCHEMA, "") if "additionalProperties" not in node]


@pytest.mark.parametrize("name", SETS)
def test_unknown_key_in_any_section_of_the_values_is_refused(name):
    values = values_of(name)
    for path in _sections(DEFAULTS, SCHEMA):
        wrong = merged(values, _nested(path, {"replicsa": 1}))
        with pytest.raises(helm.HelmError, match="replicsa"):
            texts(wrong)


def test_chart_readme_is_generated_from_the_values():
    """ops/charts/readme.py refuses a value without a comment."""
    sys.path.insert(0, str(ROOT / "ops" / "charts"))
    import readme

    assert (CHART / "README.md").read_text() == readme.readme()
    with pytest.raises(readme.Undocumented, match=r"a\.c"):
        list(readme.documented("a:\n  # -- Said.\n  b: 1\n  c: 2\n"))


REFUSED = [
    ("laptop", {"kafka": {"brokers": "b:9092"}}, "choose"),
    ("staging", {"kafka": {"brokers": ""}}, "name your brokers"),
    ("staging", {"kafka": {"brokers": "b:9093,c"}}, "is not host:port"),
    ("laptop", {"kafka": {"securityProtocol": "SASL_SSL"}}, "set kafka.securityProtocol to PLAINTEXT"),
    ("laptop", {"kafka": {"replication": 3}}, "kafka.replication can only be 1"),
    ("laptop", {"redis": {"waitReplicas": 1}}, "or every write fails"),
    ("laptop", {"redis": {"install": {"resources": {"limits": {"memory": "1Gi"}}}}}, "whole number of Mi"),
    ("staging", {"kafka": {"usernames": {"gateway": "kefu-worker"}}}, "two roles have one name"),
    ("laptop", {"worker": {"replicas": 9}}, "has 8 partitions"),
    ("staging", {"worker": {"autoscaling": {"max": 17}}}, "has 16 partitions"),
    ("staging", {"worker": {"autoscaling": {"min": 9}}}, "less than min"),
    ("staging", {"worker": {"resources": {"requests": {"cpu": None}}}}, "set worker.resources.requests.cpu"),
    ("production", {"gateway": {"autoscaling": {"prometheus": ""}}}, "KEDA asks it"),
    ("production", {"monitoring": {"rules": {"enabled": False}}}, "gateway.autoscaling asks Prometheus"),
    (
        "staging",
        {"monitoring": {"rules": {"enabled": False}}, "worker": {"autoscaling": {"kind": "hpa"}}},
        "worker.autoscaling asks Prometheus",
    ),
    ("production", {"worker": {"autoscaling": {"passwordSecret": ""}}}, "name the Secret with its password"),
    ("laptop", {"release": {"canary": {"percent": 5}}}, "set release.candidate"),
    ("laptop", {"shop": {"enabled": False}}, "actions.shopUrl is empty"),
    ("laptop", {"actions": {"shopUrl": "http://x"}}, "choose"),
    ("staging", {"kafka": {"peers": []}}, "kafka.peers"),
    ("staging", {"redis": {"peers": []}}, "redis.peers"),
    ("staging", {"idleFirst": {"enabled": True, "apiServer": []}}, "where the API server is"),
    ("staging", {"networkPolicy": {"ingressFrom": []}}, "where the ingress controller is"),
    ("staging", {"networkPolicy": {"monitoringFrom": []}}, "where Prometheus is"),
    ("production", {"actions": {"extraEgress": []}}, "actions.extraEgress"),
    ("production", {"worker": {"extraEgress": []}}, "worker.extraEgress"),
    ("staging", {"ingress": {"hosts": []}}, "ingress.hosts is empty"),
    ("production", {"worker": {"model": {"sha256": ""}}}, "worker.model.sha256"),
    ("staging", {"secrets": {"external": {"store": ""}}}, "secrets.external.store"),
    ("production", {"secrets": {"vault": {"address": ""}}}, "secrets.vault.address"),
    ("staging", {"secrets": {"values": {"actions": {"KEFU_SHOP_TOKEN": "x"}}}}, "nobody would read them"),
    (
        "laptop",
        {"secrets": {"values": {"actions": {"KEFU_SHOP_TOKEN": ""}}}},
        "secrets.values.actions.KEFU_SHOP_TOKEN is missing",
    ),
    ("laptop", {"worker": {"drainSeconds": 10}}, "a turn under way is cut off"),
    ("laptop", {"worker": {"env": {"KEFU_TURN_DEADLINE_S": "25"}}}, "25 s that a turn may take"),
    ("staging", {"ingress": {"controller": "traefik", "socketio": True}}, "leave /socket.io/ out"),
    ("staging", {"tls": {"enabled": True, "issuer": {"create": False}}}, "name the issuer"),
    ("staging", {"tls": {"enabled": True, "issuer": {"name": "x"}}}, "makes another one: choose"),
    ("production", {"kafka": {"replication": 2}}, "replication of 3"),
    ("production", {"redis": {"waitReplicas": 0}}, "may give replies twice"),
    ("production", {"kafka": {"securityProtocol": "SASL_PLAINTEXT"}}, "needs TLS to Kafka"),
    ("production", {"kafka": {"securityProtocol": "SSL"}}, "a user for each role"),
    ("production", {"secrets": {"source": "values"}}, "release's history"),
    ("production", {"gateway": {"demoLogin": True}}, "anyone be alice"),
    ("production", {"shop": {"enabled": True}, "actions": {"shopUrl": ""}}, "made-up orders"),
    ("production", {"networkPolicy": {"enabled": False}}, "needs networkPolicy"),
    ("production", {"ingress": {"tlsSecret": ""}}, "ingress.tlsSecret"),
    ("production", {"actions": {"autoscaling": {"min": 1}}}, "two pods of actions"),
    ("production", {"worker": {"maxUnavailable": 9}}, "lets all its pods go"),
    ("laptop", {"environment": "production"}, "would lose messages"),
    ("production", {"redis": {"install": {"enabled": True}, "waitReplicas": 0}}, "would lose conversations"),
    ("laptop", {"environment": "prod"}, "environment"),
    ("laptop", {"worker": {"maxSurge": 0}}, "maxSurge"),
    ("laptop", {"worker": {"maxSurge": "25"}}, "maxSurge"),
    ("laptop", {"gateway": {"env": {"lower": "x"}}}, "lower"),
    ("laptop", {"image": {"worker": {"digest": "latest"}}}, "digest"),
]


@pytest.mark.parametrize(("name", "over", "sentence"), REFUSED, ids=[case[2] for case in REFUSED])
def test_impossible_values_are_refused_with_a_sentence(name, over, sentence):
    """Helm renders nothing, and its error says what to change."""
    with pytest.raises(helm.HelmError) as refusal:
        texts(merged(values_of(name), over))
    assert sentence in str(refusal.value)


def test_every_refusal_of_the_templates_has_a_case():
    text = (CHART / "templates" / "checks.yaml").read_text() + (CHART / "templates" / "ingress.yaml").read_text()
    sentences = [part.split('"')[0].removesuffix("\\") for part in text.split('fail "')[1:]]
    sentences += [part.split('"')[0] for part in text.split('fail (printf "')[1:]]
    refusals = [_refusal(name, over) for name, over, _ in REFUSED]
    pieces = [max(re.split("%[dsvq]", sentence), key=len) for sentence in sentences]
    assert [piece for piece in pieces if not any(piece in each for each in refusals)] == []


def test_production_checks_apply_to_production_only():
    """Staging may have a demo log-in, and Redis without replicas."""
    assert render("staging", redis={"waitReplicas": 0}, gateway={"demoLogin": True})


def _refusal(name, over):
    with pytest.raises(helm.HelmError) as refusal:
        texts(merged(values_of(name), over))
    return str(refusal.value)


def _open(schema):
    """Return whether the schema allows any keys in a section."""
    return "$ref" in schema or schema.get("type") != "object" or "properties" not in schema


def _paths(values, schema, prefix=""):
    for key, value in values.items():
        yield prefix + key
        child = schema["properties"].get(key, {})
        if isinstance(value, dict) and not _open(child):
            yield from _paths(value, child, f"{prefix}{key}.")


def _schema_paths(schema, prefix=""):
    for key, child in schema.get("properties", {}).items():
        yield prefix + key
        if not _open(child):
            yield from _schema_paths(child, f"{prefix}{key}.")


def _objects(schema, path):
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield path, schema
        for key, child in schema.items():
            yield from _objects(child, f"{path}/{key}")


def _sections(values, schema, prefix=()):
    yield prefix
    for key, value in values.items():
        child = schema["properties"][key]
        if isinstance(value, dict) and not _open(child):
            yield from _sections(value, child, (*prefix, key))


def _nested(path, value):
    for key in reversed(path):
        value = {key: value}
    return value
