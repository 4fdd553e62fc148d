"""Each variable is declared once; its reader, its error texts and the printed page follow the declaration."""

import typing

import pytest

from kefu.errors import SettingsError
from kefu.settings import (
    ActionSettings,
    GatewaySettings,
    KafkaSettings,
    RedisSettings,
    ShopSettings,
    WorkerSettings,
    declared_settings,
    kafka_principals,
    operator,
)
from kefu.settings.declaring import Setting, settings_of
from kefu.tools.settings_page import page
from ops.local.servers import ROOT

SECTIONS = (ActionSettings, GatewaySettings, KafkaSettings, RedisSettings, ShopSettings, WorkerSettings)
KEYS = '{"site_key": "k", "identity_secret": "i", "token_secret": "hunter2"}'
SET = {
    "KAFKA_BROKERS": "b:1",
    "REDIS_URL": "redis://:hunter2@h",
    "KEFU_TENANTS": f'{{"a": {KEYS}, "b": {KEYS}}}',
    "KEFU_RECEIPT_SECRET": "hunter2",
    "ACTION_ENDPOINT_URL": "http://a",
    "SHOP_URL": "http://s",
    "KEFU_SHOP_TOKEN": "hunter2",
    "KEFU_SHOP_DATABASE_URL": "sqlite:///hunter2",
}
DECLARED = {each.key: each for group in declared_settings().values() for each in group}
NUMBERS = [each for each in DECLARED.values() if each.kind in (int, float)]


def refusal(section, **changes):
    """Return the key and the sentence of the SettingsError for these variables."""
    with pytest.raises(SettingsError) as refused:
        section.from_env({**SET, **changes})
    assert "hunter2" not in str(refused.value)
    return refused.value.key, refused.value.problem


def reader(key):
    """Return the section that declares a variable."""
    return next(section for section in SECTIONS if key in {each.key for each in settings_of(section).values()})


def test_committed_settings_page_equals_the_commands_output():
    committed = (ROOT / "ops" / "settings.md").read_text()
    assert committed == page(), "run: python -m kefu settings > ops/settings.md"


@pytest.mark.parametrize("section", SECTIONS)
def test_settings_have_their_declared_type_and_default(section):
    read = section.from_env(SET)
    for name, annotated in typing.get_type_hints(section).items():
        declared = settings_of(section)[name]
        assert declared.convert or annotated is declared.kind, name
        value = getattr(read, name)
        assert declared.convert or type(value) is declared.kind, name
        if declared.default is not None and name != "page_tenant":
            assert value == declared.default, name


def test_secrets_have_no_default_and_are_not_shown():
    assert {each.key for each in DECLARED.values() if each.secret and each.default} == set()
    assert "hunter2" not in "".join(repr(section.from_env(SET)) for section in SECTIONS)


@pytest.mark.parametrize("declared", NUMBERS, ids=lambda declared: declared.key)
def test_a_number_outside_its_bounds_is_refused(declared):
    section = reader(declared.key)
    name = next(name for name, each in settings_of(section).items() if each is declared)
    for bound in (declared.minimum, declared.maximum):
        assert getattr(section.from_env({**SET, declared.key: str(bound)}), name) == bound
    wrong = [str(declared.minimum - 1), str(declared.maximum + 1), "", "many", "nan", "inf"]
    if declared.kind is int:
        wrong.append(f"{declared.minimum}.5")
    for text in filter(None, wrong):
        key, problem = refusal(section, **{declared.key: text})
        assert (key, problem) == (declared.key, f"must be {declared.allowed}"), text
    kind = "a whole number" if declared.kind is int else "a number"
    assert declared.allowed.startswith(f"{kind} from ")


@pytest.mark.parametrize("key", sorted(SET))
def test_missing_variable_is_refused_by_name(key):
    for empty in ("", "  "):
        assert refusal(reader(key), **{key: empty}) == (key, "is not set")


@pytest.mark.parametrize(
    ("key", "text", "problem"),
    [
        ("KAFKA_SECURITY_PROTOCOL", "TLS", "must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
        ("KEFU_ACCESS_LOG", "yes", "must be 0 or 1"),
        ("KEFU_DEMO_LOGIN", "0.5", "must be 0 or 1"),
        ("KEFU_PAGE_TENANT", "hunter", "names no tenant of KEFU_TENANTS"),
        ("KEFU_TENANTS", "{}", "names no tenant"),
        ("KEFU_TENANTS", f'{{"a": {KEYS}, hunter2', "must be a JSON object: tenant name to"),
        ("KEFU_TENANTS", '["hunter2"]', "must be a JSON object: tenant name to"),
        ("KEFU_TENANTS", KEYS.replace("k", "").join(['{"a": ', "}"]), "must be a JSON object: tenant name to"),
    ],
)
def test_a_wrong_variable_is_refused_with_the_allowed_values(key, text, problem):
    refused_key, sentence = refusal(reader(key), **{key: text})
    assert refused_key == key and sentence.startswith(problem)


def test_the_kafka_login_is_read_only_with_sasl():
    """With another security protocol the variables of the login are ignored."""
    assert refusal(KafkaSettings, KAFKA_SECURITY_PROTOCOL="sasl_ssl") == ("KAFKA_SASL_USERNAME", "is not set")
    plain = KafkaSettings.from_env(
        {**SET, "KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD_FILE": "/none", "KAFKA_CA_FILE": "/ca"}
    )
    assert (plain.sasl_username, plain.sasl_password, plain.ca_file) == ("", "", "")
    login = {"KAFKA_SASL_USERNAME": "u", "KAFKA_SASL_PASSWORD": "hunter2", "KAFKA_CA_FILE": "/ca"}
    sasl = KafkaSettings.from_env({**SET, **login, "KAFKA_SECURITY_PROTOCOL": "sasl_ssl"})
    assert (sasl.security_protocol, sasl.sasl_username, sasl.ca_file) == ("SASL_SSL", "u", "/ca")
    assert sasl.sasl_password == "hunter2" and "hunter2" not in repr(sasl)


def test_setting_a_track_requires_the_release_plan():
    assert refusal(WorkerSettings, KEFU_TRACK="blue") == ("KEFU_RELEASE_PLAN", "is not set")
    assert WorkerSettings.from_env({**SET, "KEFU_RELEASE_PLAN": "/plan"}).release_plan == ""


def test_a_secrets_file_outranks_its_variable(tmp_path):
    """REDIS_URL_FILE names a file that is read in place of REDIS_URL."""
    path = tmp_path / "url"
    path.write_text("redis://from-file\n")
    read = RedisSettings.from_env({**SET, "REDIS_URL_FILE": str(path)})
    assert read.url == "redis://from-file"
    assert RedisSettings.from_env_if_set({"REDIS_URL_FILE": str(path)}) == read
    assert RedisSettings.from_env_if_set({"REDIS_URL": " "}) is None


def test_unreadable_secret_file_is_reported_by_its_variable(tmp_path):
    path = tmp_path / "secret"
    assert refusal(RedisSettings, REDIS_URL_FILE=str(path)) == (
        "REDIS_URL_FILE",
        "names a file that can't be read (FileNotFoundError)",
    )
    path.write_bytes(b"\xff")
    assert refusal(RedisSettings, REDIS_URL_FILE=str(path))[1].endswith("can't be read (UnicodeDecodeError)")
    path.write_text(" \n")
    assert refusal(RedisSettings, REDIS_URL_FILE=str(path)) == ("REDIS_URL_FILE", "names an empty file")
    path.write_text("redis://:hunter2/@h")
    key, problem = refusal(RedisSettings, REDIS_URL_FILE=str(path))
    assert key == "REDIS_URL_FILE" and "percent-encode" in problem
    path.write_text("hunter2")
    assert refusal(GatewaySettings, KEFU_TENANTS_FILE=str(path))[0] == "KEFU_TENANTS_FILE"


def test_only_secrets_are_read_from_files():
    with pytest.raises(SettingsError, match="KAFKA_BROKERS is not set"):
        KafkaSettings.from_env({"KAFKA_BROKERS_FILE": "/etc/hostname"})


def test_number_written_as_1e06_by_helm_is_read():
    assert GatewaySettings.from_env({**SET, "KEFU_MAX_STREAMS": "1e+06"}).max_streams == 1_000_000


def test_operator_name_and_kafka_users_are_read():
    assert operator({"KEFU_OPERATOR": " ann "}) == "ann"
    with pytest.raises(SettingsError, match="KEFU_OPERATOR is longer than 128 characters"):
        operator({"KEFU_OPERATOR": "a" * 129})
    assert kafka_principals({"KEFU_ACL_WORKER": "w", "KEFU_ACL_BACKUP": ""}) == {"worker": "w"}


def test_error_text_of_a_setting_names_bounds_and_choices():
    assert Setting("K", float, 1, 0.05, 604800).allowed == "a number from 0.05 to 604800"
    assert Setting("K", choices=("A",)).allowed == "A"
