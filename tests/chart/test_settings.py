"""The chart sets exactly the settings that the processes read."""

import pytest

from kefu import settings
from kefu.errors import SettingsError
from tests.chart.rendering import SETS, containers, of_kind, pods, render

# The sections that each process builds at its start.
SECTIONS = {
    "gateway": (settings.GatewaySettings, settings.KafkaSettings, settings.RedisSettings),
    "worker": (settings.WorkerSettings, settings.KafkaSettings, settings.RedisSettings),
    "actions": (settings.ActionSettings,),
    "shop": (settings.ShopSettings,),
    **dict.fromkeys(("topics", "backup", "restore", "operator"), (settings.KafkaSettings,)),
}
IMAGES = {"HOME", "PYTHONUNBUFFERED"}  # read by Python
TENANTS = '{"demo": {"site_key": "demo", "identity_secret": "x", "token_secret": "y"}}'
SECRETS = {"KEFU_TENANTS": TENANTS, "REDIS_URL": "rediss://kefu:x@redis:6379"}


def missing_settings(component, environment):
    """Return what stops a process with this environment, empty if nothing does."""
    try:
        for section in SECTIONS[component]:
            section.from_env(environment)
    except SettingsError as error:
        return str(error)
    return ""


def unknown_settings(environment):
    """Return the names of settings that kefu/settings never asks for."""
    declared = [each for group in settings.declared_settings().values() for each in group]
    files = {f"{each.key}_FILE" for each in declared if each.secret}
    return set(environment) - {each.key for each in declared} - files - IMAGES


def started(container, directory):
    """Return a container's environment with its secrets as files."""
    environment = {each["name"]: each["value"] for each in container["env"]}
    for name, value in environment.items():
        if value.startswith("/etc/kefu/secrets/"):
            path = directory / name
            path.write_text(SECRETS.get(name.removesuffix("_FILE"), "secret"))
            environment[name] = str(path)
    return environment


@pytest.mark.parametrize("name", SETS)
def test_processes_understand_their_settings(name, tmp_path):
    found = render(name)
    for owner, pod in pods(found).items():
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        if component in SECTIONS:
            environment = started(pod["spec"]["containers"][0], tmp_path)
            assert missing_settings(component, environment) == "", owner
            assert unknown_settings(environment) == set(), owner


def test_the_grace_period_covers_what_the_process_itself_waits_for():
    found = render("laptop")
    for name in ("gateway", "worker"):
        deployment = of_kind(found, "Deployment")[f"kefu-{name}"]
        environment = {each["name"]: each["value"] for each in containers(deployment["spec"]["template"])[-1]["env"]}
        drain = float(environment["KEFU_GATEWAY_DRAIN_S" if name == "gateway" else "KEFU_DRAIN_S"])
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= drain + 10


def test_a_setting_that_nobody_reads_is_noticed():
    assert unknown_settings({"KEFU_DRIAN_S": "1", "KEFU_DRAIN_S": "1"}) == {"KEFU_DRIAN_S"}
