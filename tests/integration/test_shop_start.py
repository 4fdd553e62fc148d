"""Starting and stopping the shop: several at once, a wrong URL, PostgreSQL."""

import glob
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.shop_fixtures import ROOT, free_port, running_shop, shop_env, stop

POSTGRES_BIN = max(glob.glob("/usr/lib/postgresql/*/bin"), default="")
URL_KEY = "KEFU_TEST_POSTGRES_URL"


def listed(shop, customer: str) -> list[dict]:
    return shop.http.get("/v1/orders", headers={"X-Customer": customer}).json()["orders"]


def start_at_once(folder: Path, count: int, database_url: str) -> list:
    with ExitStack() as stack, ThreadPoolExecutor(count) as pool:
        folders = [folder / str(n) for n in range(count)]
        for each in folders:
            each.mkdir()
        contexts = [running_shop(each, database_url) for each in folders]
        shops = list(pool.map(stack.enter_context, contexts))
        return [listed(shop, "alice") for shop in shops] + ["".join(shop.stderr() for shop in shops)]


def test_processes_that_start_at_once_on_an_empty_database_seed_it_once(tmp_path):
    *answers, logs = start_at_once(tmp_path, 4, f"sqlite:///{tmp_path / 'one.db'}")
    assert all(answer == answers[0] and len(answer) == 5 for answer in answers)
    assert logs.count("demo data written") == 1


def test_a_restart_keeps_what_was_stored(tmp_path):
    call = {"json": {"number": "20260001", "kind": "tracking"}, "headers": {"Idempotency-Key": "k"}}
    with running_shop(tmp_path) as shop:
        assert shop.http.post("/v1/inquiries", **call).status_code == 201
    with running_shop(tmp_path) as shop:
        assert shop.http.post("/v1/inquiries", **call).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(tmp_path, number):
    with running_shop(tmp_path) as shop:
        assert stop(shop.process, number) == 0
    assert "Traceback" not in shop.stderr()


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://u:hidden@h/d",
        "sqlite://",
        "sqlite:////proc/no/shop.db",
        "postgresql://u:hidden@127.0.0.1:1/d",
    ],
)
def test_a_wrong_database_url_ends_the_start_with_the_settings_name_and_no_password(url):
    command = [sys.executable, "-m", "ops.local.shop"]
    env = {**os.environ, **shop_env(free_port(), url)}
    ended = subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "KEFU_SHOP_DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "hidden" not in ended.stderr


@pytest.fixture(scope="module")
def postgres_url(tmp_path_factory):
    """A server of our own from Debian's package, or the one that KEFU_TEST_POSTGRES_URL names."""
    if os.environ.get(URL_KEY):
        yield os.environ[URL_KEY]
        return
    if not POSTGRES_BIN:
        pytest.skip(f"no PostgreSQL: `apt-get install postgresql`, or set {URL_KEY}")
    folder, port = tmp_path_factory.mktemp("postgres"), free_port()
    _as_postgres(folder, "initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "kefu", "--no-sync")
    options = f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off"
    control = ("pg_ctl", "-D", str(folder / "data"), "-w", "-l", str(folder / "log"))
    _as_postgres(folder, *control, "-o", options, "start")
    try:
        yield f"postgresql://kefu@127.0.0.1:{port}/postgres"
    finally:
        _as_postgres(folder, *control, "-m", "immediate", "stop")


def _as_postgres(folder: Path, program: str, *arguments: str) -> None:
    user = None
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        user = "postgres"
        subprocess.run(["chown", "-R", user, str(folder)], check=True)
        for parent in list(folder.parents)[:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
    command = [str(Path(POSTGRES_BIN) / program), *arguments]
    subprocess.run(command, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL, timeout=60)


def test_processes_that_start_at_once_on_postgresql_seed_it_once(postgres_url, tmp_path):
    *answers, logs = start_at_once(tmp_path, 3, postgres_url)
    assert all(answer == answers[0] and len(answer) == 5 for answer in answers)
    assert logs.count("demo data written") == 1


def test_on_postgresql_everything_is_answered_as_on_sqlite(postgres_url, tmp_path):
    (tmp_path / "sqlite").mkdir()
    (tmp_path / "postgres").mkdir()
    with running_shop(tmp_path / "sqlite") as lite, running_shop(tmp_path / "postgres", postgres_url) as postgres:
        assert _everything(postgres) == _everything(lite)


def _everything(shop) -> list[tuple[int, bytes]]:
    inquiry = {"json": {"number": "20260001", "kind": "tracking"}, "headers": {"Idempotency-Key": "once"}}
    other = {"json": {"number": "20260002", "kind": "tracking"}, "headers": {"Idempotency-Key": "once"}}
    answers = [shop.http.get(f"/v1/orders/2026000{n}", headers={"X-Customer": "alice"}) for n in range(1, 8)]
    answers += [shop.http.get("/v1/orders", headers={"X-Customer": "bob"})]
    answers += [shop.http.post("/v1/inquiries", **call) for call in (inquiry, inquiry, other)]
    for last4 in ("1234", "0000", "0001", "0002", "0003", "0004", "1234"):
        body = {"number": "20260001", "phone_last4": last4}
        answers.append(shop.http.post("/v1/order-lookups", json=body))
    return [(answer.status_code, answer.content) for answer in answers]
