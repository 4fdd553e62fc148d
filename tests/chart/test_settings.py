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
IMAGES = {"HOME", "PYTHONUNBUFFERED"}  # variables that Python itself reads
TENANTS = '{"demo": {"site_key": "demo", "identity_secret": "x", "token_secret": "y"}}'
SECRETS = {"KEFU_TENANTS": TENANTS, "REDIS_URL": "rediss://kefu:x@redis:6379"}


def missing_settings(component, environment):
    """Return the error that stops a process with this environment, empty if it starts."""
    try:
        for section in SECTIONS[component]:
            section.from_env(environment)
    except SettingsError as error:
        return str(error)
    return ""


def unknown_settings(environment):
    """Return the variables that kefu/settings does not declare."""
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
def test_chart_sets_no_unknown_or_missing_setting(name, tmp_path):
    documents = render(name)
    for owner, pod in pods(documents).items():
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        if component in SECTIONS:
            environment = started(pod["spec"]["containers"][0], tmp_path)
            assert missing_settings(component, environment) == "", owner
            assert unknown_settings(environment) == set(), owner


def test_grace_period_covers_the_drain_of_the_process():
    documents = render("laptop")
    for name in ("gateway", "worker"):
        deployment = of_kind(documents, "Deployment")[f"kefu-{name}"]
        environment = {each["name"]: each["value"] for each in containers(deployment["spec"]["template"])[-1]["env"]}
        drain = float(environment["KEFU_GATEWAY_DRAIN_S" if name == "gateway" else "KEFU_DRAIN_S"])
        assert deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= drain + 10


def test_misspelt_setting_is_found():
    assert unknown_settings({"KEFU_DRIAN_S": "1", "KEFU_DRAIN_S": "1"}) == {"KEFU_DRIAN_S"}
