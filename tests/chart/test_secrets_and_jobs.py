"""The secrets of each pod, and the jobs: topics, backup, operators' tools."""

import re

import pytest

from tests.chart.rendering import containers, env_of, of_kind, pods, render

SECRETS_OF_STAGING = {
    "gateway": {"KEFU_TENANTS": "{}", "KEFU_RECEIPT_SECRET": "x", "REDIS_URL": "redis://x", "KAFKA_SASL_PASSWORD": "x"},
    "worker": {"REDIS_URL": "redis://x", "KEFU_RASA_TOKEN": "x", "KAFKA_SASL_PASSWORD": "x"},
    "actions": {"KEFU_SHOP_TOKEN": "x"},
    "shop": {"KEFU_SHOP_TOKEN": "x", "KEFU_SHOP_DATABASE_URL": "sqlite:////data/shop.db"},
    **{name: {"KAFKA_SASL_PASSWORD": "x"} for name in ("topics", "backup", "operator")},
}


def test_a_pod_sees_its_own_secrets_alone(found):
    for name, pod in pods(found).items():
        for volume in pod["spec"].get("volumes", []):
            keys = {item["key"] for item in volume.get("secret", {}).get("items", [])}
            read = {key.removesuffix("_FILE") for c in containers(pod) for key in env_of(c) if key.endswith("_FILE")}
            if volume["name"] == "secrets" and "secret" in volume:
                assert keys == read - {"KAFKA_CA"}, name


def test_no_secret_is_in_the_environment(found):
    for name, pod in pods(found).items():
        for container in containers(pod):
            named = [key for key in env_of(container) if re.search("TOKEN|SECRET|PASSWORD|TENANTS", key)]
            assert all(key.endswith("_FILE") for key in named), name


@pytest.mark.parametrize("source", ["external", "vault"])
def test_every_secret_comes_from_the_store(source):
    manifests = render("production", secrets={"source": source, "external": {"store": "company"}})
    for name, pod in pods(manifests).items():
        wanted = {key.removesuffix("_FILE") for c in containers(pod) for key in env_of(c) if key.endswith("_FILE")}
        wanted -= {"KAFKA_CA"}
        if not wanted:
            continue
        name = next(_source(each) for each in pod["spec"]["volumes"] if each["name"] == "secrets")
        if source == "external":
            held = {each["secretKey"] for each in of_kind(manifests, "ExternalSecret")[name]["spec"]["data"]}
        else:
            parameters = of_kind(manifests, "SecretProviderClass")[name]["spec"]["parameters"]
            held = set(re.findall(r"objectName: (\w+)", parameters["objects"]))
        assert held == wanted, name


def _source(volume):
    """Return the name of what a volume of secrets is made of."""
    return (
        volume["csi"]["volumeAttributes"]["secretProviderClass"] if "csi" in volume else volume["secret"]["secretName"]
    )


def test_operators_tools_have_a_place_with_the_rights_of_one_role_each():
    found = render("production")
    names = {"kefu-operator": "operator", "kefu-restore": "backup"}
    jobs = of_kind(found, "CronJob")
    for name, role in names.items():
        spec = pods(found)[name]["spec"]
        assert jobs[name]["spec"]["suspend"] is True
        assert jobs[name]["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 7200
        assert spec["serviceAccountName"] == f"kefu-{role}"
        assert env_of(spec["containers"][0])["KAFKA_SASL_USERNAME"] == f"kefu-{role}"
        assert next(_source(each) for each in spec["volumes"] if each["name"] == "secrets") == f"kefu-{role}"
        egress = of_kind(found, "NetworkPolicy")[name]["spec"]["egress"]
        assert [rule["ports"][0]["port"] for rule in egress] == [53, 9093], "names, Kafka, and nobody else"


def test_nightly_backup_has_a_volume_that_outlives_the_release():
    found = render("production", backup={"keep": 5, "volume": {"size": "9Gi", "storageClass": "sealed"}})
    job = of_kind(found, "CronJob")["kefu-backup"]["spec"]
    assert "suspend" not in job and job["concurrencyPolicy"] == "Forbid"
    for name in ("kefu-backup", "kefu-restore"):
        spec = pods(found)[name]["spec"]
        claim = next(each["persistentVolumeClaim"] for each in spec["volumes"] if each["name"] == "backups")
        assert claim == {"claimName": "kefu-backup"}
        assert {"name": "backups", "mountPath": "/backups"} in spec["containers"][0]["volumeMounts"]
    command = pods(found)["kefu-backup"]["spec"]["containers"][0]["command"]
    assert command == ["python", "-m", "kefu", "backup", "rotate", "/backups", "--keep", "5"]
    volume = of_kind(found, "PersistentVolumeClaim")["kefu-backup"]
    assert volume["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert volume["spec"]["storageClassName"] == "sealed"
    assert volume["spec"]["resources"]["requests"]["storage"] == "9Gi"
    own = render("production", backup={"volume": {"existingClaim": "mine"}})
    assert not of_kind(own, "PersistentVolumeClaim")
    assert "mine" in str(pods(own)["kefu-restore"]["spec"]["volumes"])


def test_without_backup_and_tools_there_is_nothing_of_them():
    found = render("production", backup={"enabled": False}, operator={"enabled": False})
    assert set(of_kind(found, "CronJob")) == {"kefu-idle-first"}
    assert not of_kind(found, "PersistentVolumeClaim")
    assert not {"kefu-backup", "kefu-operator", "kefu-restore"} & {each["metadata"]["name"] for each in found}


def test_topics_job_runs_first_and_needs_no_later_object():
    for source in ("existing", "external", "vault"):
        secrets = {"source": source, "external": {"store": "company"}}
        manifests = render("production", secrets=secrets)
        weights = {
            (each["kind"], each["metadata"]["name"]): int(each["metadata"]["annotations"]["helm.sh/hook-weight"])
            for each in manifests
            if "helm.sh/hook" in each["metadata"].get("annotations", {})
        }
        job = weights.pop(("Job", "kefu-topics"))
        needed = {("ServiceAccount", "kefu-topics"), ("NetworkPolicy", "kefu-topics")}
        kind = {"external": "ExternalSecret", "vault": "SecretProviderClass"}.get(source)
        needed |= {(kind, "kefu-topics")} if kind else set()
        assert set(weights) == needed
        assert all(weight < job for weight in weights.values())


@pytest.mark.parametrize("source", ["values", "external", "vault"])
def test_objects_of_the_topics_job_are_removed_after_it(source):
    secrets = {"source": source, "external": {"store": "company"}, "vault": {"address": "https://vault"}}
    found = render("staging", secrets={**secrets, "values": SECRETS_OF_STAGING if source == "values" else {}})
    hooks = [each for each in found if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    kind = {"values": "Secret", "external": "ExternalSecret", "vault": "SecretProviderClass"}[source]
    assert (kind, "kefu-topics") in [(each["kind"], each["metadata"]["name"]) for each in hooks]
    assert [each["kind"] for each in _left_by_helm(hooks)] == ["Job"]
    assert of_kind(found, "Job")["kefu-topics"]["spec"]["ttlSecondsAfterFinished"] <= 86400
    in_release = [each for each in found if each not in hooks and each["metadata"]["name"] == "kefu-topics"]
    assert in_release == []


def _left_by_helm(hooks):
    """Return what is still there after an installation and an uninstall: of hooks, what nobody deletes.

    Source: Helm, pkg/action/hooks.go: all are made in the order of their weights; when the last has succeeded, those
    that say so are deleted. An uninstall deletes the release's manifest alone.
    """
    in_order = sorted(hooks, key=lambda each: int(each["metadata"]["annotations"]["helm.sh/hook-weight"]))
    assert in_order[-1]["kind"] == "Job"
    policies = {id(each): each["metadata"]["annotations"]["helm.sh/hook-delete-policy"].split(",") for each in in_order}
    assert all("before-hook-creation" in policy for policy in policies.values())
    return [each for each in in_order if "hook-succeeded" not in policies[id(each)]]


def test_beside_a_broker_of_the_release_the_topics_job_is_no_hook():
    jobs = of_kind(render("laptop"), "Job")
    assert list(jobs) == ["kefu-topics-1"]
    assert "annotations" not in jobs["kefu-topics-1"]["metadata"]


def test_changed_secrets_of_the_values_make_new_pods():
    before, after = (
        pods(render("laptop", secrets={"values": {"actions": {"KEFU_SHOP_TOKEN": token}}})) for token in ("a", "b")
    )
    assert before["kefu-actions"] != after["kefu-actions"]
    assert before["kefu-gateway"] == after["kefu-gateway"]
