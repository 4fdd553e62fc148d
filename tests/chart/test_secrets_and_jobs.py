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


def test_each_pod_mounts_only_the_secrets_that_it_reads(manifests):
    for name, pod in pods(manifests).items():
        for volume in pod["spec"].get("volumes", []):
            keys = {item["key"] for item in volume.get("secret", {}).get("items", [])}
            read = {key.removesuffix("_FILE") for c in containers(pod) for key in env_of(c) if key.endswith("_FILE")}
            if volume["name"] == "secrets" and "secret" in volume:
                assert keys == read - {"KAFKA_CA"}, name


def test_secrets_are_files_and_no_environment_variables(manifests):
    for name, pod in pods(manifests).items():
        for container in containers(pod):
            named = [key for key in env_of(container) if re.search("TOKEN|SECRET|PASSWORD|TENANTS", key)]
            assert all(key.endswith("_FILE") for key in named), name


@pytest.mark.parametrize("source", ["external", "vault"])
def test_secret_store_gives_every_secret_that_pods_read(source):
    """The store is reached by External Secrets or by Vault's CSI driver."""
    manifests = render("production", secrets={"source": source, "external": {"store": "company"}})
    for name, pod in pods(manifests).items():
        needed = {key.removesuffix("_FILE") for c in containers(pod) for key in env_of(c) if key.endswith("_FILE")}
        needed -= {"KAFKA_CA"}
        if not needed:
            continue
        name = next(_source(each) for each in pod["spec"]["volumes"] if each["name"] == "secrets")
        if source == "external":
            keys = {each["secretKey"] for each in of_kind(manifests, "ExternalSecret")[name]["spec"]["data"]}
        else:
            parameters = of_kind(manifests, "SecretProviderClass")[name]["spec"]["parameters"]
            keys = set(re.findall(r"objectName: (\w+)", parameters["objects"]))
        assert keys == needed, name


def _source(volume):
    """Return the name of the Secret or SecretProviderClass that a volume shows."""
    return (
        volume["csi"]["volumeAttributes"]["secretProviderClass"] if "csi" in volume else volume["secret"]["secretName"]
    )


def test_operator_and_restore_jobs_have_the_rights_of_one_role():
    """Both are suspended CronJobs from which an operator starts a pod; it reaches DNS and Kafka only."""
    manifests = render("production")
    names = {"kefu-operator": "operator", "kefu-restore": "backup"}
    jobs = of_kind(manifests, "CronJob")
    for name, role in names.items():
        spec = pods(manifests)[name]["spec"]
        assert jobs[name]["spec"]["suspend"] is True
        assert jobs[name]["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 7200
        assert spec["serviceAccountName"] == f"kefu-{role}"
        assert env_of(spec["containers"][0])["KAFKA_SASL_USERNAME"] == f"kefu-{role}"
        assert next(_source(each) for each in spec["volumes"] if each["name"] == "secrets") == f"kefu-{role}"
        egress = of_kind(manifests, "NetworkPolicy")[name]["spec"]["egress"]
        assert [rule["ports"][0]["port"] for rule in egress] == [53, 9093], "only DNS and Kafka"


def test_nightly_backup_has_a_volume_that_outlives_the_release():
    manifests = render("production", backup={"keep": 5, "volume": {"size": "9Gi", "storageClass": "sealed"}})
    job = of_kind(manifests, "CronJob")["kefu-backup"]["spec"]
    assert "suspend" not in job and job["concurrencyPolicy"] == "Forbid"
    for name in ("kefu-backup", "kefu-restore"):
        spec = pods(manifests)[name]["spec"]
        claim = next(each["persistentVolumeClaim"] for each in spec["volumes"] if each["name"] == "backups")
        assert claim == {"claimName": "kefu-backup"}
        assert {"name": "backups", "mountPath": "/backups"} in spec["containers"][0]["volumeMounts"]
    command = pods(manifests)["kefu-backup"]["spec"]["containers"][0]["command"]
    assert command == ["python", "-m", "kefu", "backup", "rotate", "/backups", "--keep", "5"]
    volume = of_kind(manifests, "PersistentVolumeClaim")["kefu-backup"]
    assert volume["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert volume["spec"]["storageClassName"] == "sealed"
    assert volume["spec"]["resources"]["requests"]["storage"] == "9Gi"
    own = render("production", backup={"volume": {"existingClaim": "mine"}})
    assert not of_kind(own, "PersistentVolumeClaim")
    assert "mine" in str(pods(own)["kefu-restore"]["spec"]["volumes"])


def test_disabled_backup_and_operator_leave_no_object():
    manifests = render("production", backup={"enabled": False}, operator={"enabled": False})
    assert set(of_kind(manifests, "CronJob")) == {"kefu-idle-first"}
    assert not of_kind(manifests, "PersistentVolumeClaim")
    assert not {"kefu-backup", "kefu-operator", "kefu-restore"} & {each["metadata"]["name"] for each in manifests}


def test_topics_job_runs_first_and_needs_no_later_object():
    """Helm runs it as a hook before the release's other objects exist."""
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
    """Helm leaves hooks behind at an uninstall: only the Job stays, for a day at most."""
    secrets = {"source": source, "external": {"store": "company"}, "vault": {"address": "https://vault"}}
    manifests = render("staging", secrets={**secrets, "values": SECRETS_OF_STAGING if source == "values" else {}})
    hooks = [each for each in manifests if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    kind = {"values": "Secret", "external": "ExternalSecret", "vault": "SecretProviderClass"}[source]
    assert (kind, "kefu-topics") in [(each["kind"], each["metadata"]["name"]) for each in hooks]
    assert [each["kind"] for each in _left_by_helm(hooks)] == ["Job"]
    assert of_kind(manifests, "Job")["kefu-topics"]["spec"]["ttlSecondsAfterFinished"] <= 86400
    in_release = [each for each in manifests if each not in hooks and each["metadata"]["name"] == "kefu-topics"]
    assert in_release == []


def _left_by_helm(hooks):
    """Return the hooks that still exist after an installation and an uninstall.

    Source: Helm, pkg/action/hooks.go: Helm creates all hooks in the order of their weights. When the last has
    succeeded, it deletes those with the policy hook-succeeded. An uninstall deletes no hook.
    """
    in_order = sorted(hooks, key=lambda each: int(each["metadata"]["annotations"]["helm.sh/hook-weight"]))
    assert in_order[-1]["kind"] == "Job"
    policies = {id(each): each["metadata"]["annotations"]["helm.sh/hook-delete-policy"].split(",") for each in in_order}
    assert all("before-hook-creation" in policy for policy in policies.values())
    return [each for each in in_order if "hook-succeeded" not in policies[id(each)]]


def test_topics_job_is_no_hook_if_the_release_brings_kafka():
    """Hooks run before the release's own broker does."""
    jobs = of_kind(render("laptop"), "Job")
    assert list(jobs) == ["kefu-topics-1"]
    assert "annotations" not in jobs["kefu-topics-1"]["metadata"]


def test_changed_secret_restarts_only_the_pods_that_read_it():
    before, after = (
        pods(render("laptop", secrets={"values": {"actions": {"KEFU_SHOP_TOKEN": token}}})) for token in ("a", "b")
    )
    assert before["kefu-actions"] != after["kefu-actions"]
    assert before["kefu-gateway"] == after["kefu-gateway"]
