"""`python -m kefu` from an operator's view: help, checks, and mistakes that are reported without a long wait."""

import re
import subprocess
import sys
import time

import pytest

from ops.local.servers import HOST, ROOT, free_port, services_python

# Limits a command that meets a server which doesn't answer, without the start of Python. A check gives up after 3 s,
# the servers' own clients would after 30. The rest is a margin for a busy machine.
TOLD_S = 20.0
TENANTS = '{"demo": {"site_key": "a", "identity_secret": "b", "token_secret": "c"}}'
ALIVE_S = 60.0  # limits a whole command, of which the start of Python takes long on a busy machine


def kefu(*words, python=None, cwd=ROOT, **settings):
    """Run `python -m kefu`; return exit code, stdout, stderr."""
    environment = {"PATH": "/usr/bin:/bin", **settings}
    command = [str(python or services_python()), "-m", "kefu", *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=ALIVE_S)
    return done.returncode, done.stdout, done.stderr


def timed(call):
    """Return a call's result and its duration in s."""
    began = time.monotonic()
    return call(), time.monotonic() - began


@pytest.fixture
def gateway(kafka_settings, redis_settings):
    """The settings that a gateway needs to start."""
    return {
        "KAFKA_BROKERS": kafka_settings.brokers,
        "REDIS_URL": redis_settings.url,
        "KEFU_TENANTS": TENANTS,
        "KEFU_RECEIPT_SECRET": "receipt",
    }


@pytest.fixture
def worker(gateway, tmp_path):
    """The settings that a worker needs to start."""
    (tmp_path / "model.tar.gz").touch()
    given = {"ACTION_ENDPOINT_URL": "http://127.0.0.1:9/webhook", "KEFU_MODEL": str(tmp_path / "model.tar.gz")}
    return {**gateway, **given}


def test_kefu_help_lists_every_process_and_exits_with_0():
    code, said, errors = kefu("--help")
    assert (code, errors) == (0, "")
    assert all(f"\n  {name} " in said for name in ("gateway", "worker", "actions", "dlq", "probe"))


def test_kefu_without_arguments_prints_its_usage_and_exits_with_2():
    code, said, errors = kefu()
    assert (code, said) == (2, "") and errors.startswith("usage:")


def test_kefu_reports_an_unknown_process_with_the_nearest_name():
    code, _, errors = kefu("gatway")
    assert code == 2 and errors.startswith("kefu: there is no process 'gatway'; did you mean gateway?")


def test_kefus_help_of_a_process_names_its_settings():
    code, said, _ = kefu("gateway", "--help")
    assert code == 0
    assert re.search(r"^ +KAFKA_BROKERS +Needed\. Brokers", said, re.MULTILINE)
    assert re.search(r"^ +KEFU_TENANTS +Needed\. .* Or KEFU_TENANTS_FILE, which names a file\.$", said, re.MULTILINE)
    assert re.search(r"^ +KAFKA_CA_FILE +File", said, re.MULTILINE)


def test_kefu_reports_an_unknown_argument_of_a_process():
    code, _, errors = kefu("gateway", "--chekc")
    assert code == 2 and "--check" in errors


@pytest.mark.parametrize(("process", "environment"), [("worker", "worker"), ("release", "worker"), ("dlq", "services")])
def test_kefu_in_the_wrong_environment_names_the_right_python(process, environment):
    """The worker and `release` run in the environment `worker`, `dlq` and most others in `services`."""
    other = services_python("worker" if environment == "services" else "services")
    code, _, errors = kefu(process, python=other)
    assert code == 2 and f".local/{environment}/bin/python" in errors and "Traceback" not in errors


def test_kefu_without_its_packages_names_the_right_python():
    """The machine's own Python has none of the packages."""
    code, _, errors = kefu("dlq", "list", python=sys.base_prefix + "/bin/python3")
    assert code == 2 and ".local/services/bin/python" in errors and "Traceback" not in errors


def test_gateways_check_passes_if_its_servers_answer(gateway):
    """`--check` reads the settings and connects to Kafka and Redis, without starting the process."""
    code, said, errors = kefu("gateway", "--check", **gateway)
    assert (code, errors) == (0, "") and "right" in said


def test_workers_check_passes_if_its_servers_answer(worker):
    code, said, errors = kefu("worker", "--check", python=services_python("worker"), **worker)
    assert (code, errors) == (0, "") and "right" in said


def test_action_servers_check_finds_a_missing_setting():
    assert kefu("actions", "--check", SHOP_URL="http://shop", KEFU_SHOP_TOKEN="t")[0] == 0
    code, _, errors = kefu("actions", "--check", SHOP_URL="http://shop")
    assert code == 1 and "KEFU_SHOP_TOKEN is not set" in errors


def test_gateways_check_names_every_wrong_setting(gateway):
    code, _, errors = kefu("gateway", "--check", **{**gateway, "KEFU_TENANTS": "", "KEFU_TOPIC_PARTITIONS": "x"})
    assert code == 1
    assert "KEFU_TENANTS is not set" in errors and "KEFU_TOPIC_PARTITIONS must be a whole number from 1" in errors


def test_workers_check_names_a_missing_model(worker):
    settings = {**worker, "KEFU_MODEL": "/nowhere"}
    code, _, errors = kefu("worker", "--check", python=services_python("worker"), **settings)
    assert code == 1 and "KEFU_MODEL names /nowhere" in errors


@pytest.mark.parametrize("side", ["gateway", "worker"])
def test_check_names_the_variables_of_unreachable_servers(gateway, worker, side):
    """The check gives up early: a server's client alone would wait for 30 s."""
    nowhere = f"{HOST}:{free_port()}"
    away = {"KAFKA_BROKERS": nowhere, "REDIS_URL": f"redis://{nowhere}"}
    python = services_python("services" if side == "gateway" else "worker")
    settings = {"gateway": gateway, "worker": worker}[side]
    (code, _, errors), took_s = timed(lambda: kefu(side, "--check", python=python, **{**settings, **away}))
    assert code == 1
    assert f"KAFKA_BROKERS names {nowhere}, where no broker answers" in errors
    assert "REDIS_URL names no Redis that answers" in errors
    assert took_s - timed(lambda: kefu(side, "--help", python=python))[1] < TOLD_S


def test_gateways_check_does_not_show_a_refused_password(gateway):
    url = gateway["REDIS_URL"].replace("redis://", "redis://nobody:hunter2@")
    code, _, errors = kefu("gateway", "--check", **{**gateway, "REDIS_URL": url})
    assert code == 1 and "REDIS_URL has a user or password that Redis refuses" in errors
    assert "hunter2" not in errors


@pytest.mark.parametrize(
    "words", [("dlq", "list"), ("tenants",), ("partitions", "8"), ("topics",), ("backup", "save", "kept")]
)
def test_every_tool_reports_an_unreachable_broker_in_time(words, tmp_path):
    nowhere = f"{HOST}:{free_port()}"
    where = [str(tmp_path / word) if word == "kept" else word for word in words]
    (code, _, errors), took_s = timed(lambda: kefu(*where, KAFKA_BROKERS=nowhere))
    assert code == 1 and f"KAFKA_BROKERS names {nowhere}, where no broker answers" in errors
    assert took_s - timed(lambda: kefu(words[0], "--help"))[1] < TOLD_S
