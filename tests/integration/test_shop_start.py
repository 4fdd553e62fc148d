"""Starting and stopping the shop: several at once, a wrong URL, PostgreSQL."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops.local.servers import free_port
from tests.integration.shop_fixtures import ROOT, running_shop, shop_env, stop

pytestmark = pytest.mark.timeout(600)


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


def test_concurrent_starts_on_sqlite_write_demo_data_once(tmp_path):
    """Four shops start at once on one empty database file."""
    *answers, logs = start_at_once(tmp_path, 4, f"sqlite:///{tmp_path / 'one.db'}")
    assert all(answer == answers[0] and len(answer) == 5 for answer in answers)
    assert logs.count("demo data written") == 1


def test_restarted_shop_keeps_its_inquiries(tmp_path):
    call = {"json": {"number": "20260001", "kind": "tracking"}, "headers": {"Idempotency-Key": "k"}}
    with running_shop(tmp_path) as shop:
        assert shop.http.post("/v1/inquiries", **call).status_code == 201
    with running_shop(tmp_path) as shop:
        assert shop.http.post("/v1/inquiries", **call).status_code == 201
        assert shop.http.get("/v1/inquiries?number=20260001").json()["count"] == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_shop_ends_cleanly_on_sigterm_and_sigint(tmp_path, number):
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
def test_shop_start_names_a_wrong_url_without_its_password(url):
    command = [sys.executable, "-m", "ops.local.shop"]
    env = {**os.environ, **shop_env(free_port(), url)}
    ended = subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "KEFU_SHOP_DATABASE_URL" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "hidden" not in ended.stderr


def test_concurrent_starts_on_postgresql_write_demo_data_once(postgres_database, tmp_path):
    *answers, logs = start_at_once(tmp_path, 3, postgres_database)
    assert all(answer == answers[0] and len(answer) == 5 for answer in answers)
    assert logs.count("demo data written") == 1


def test_shop_answers_the_same_on_postgresql_and_sqlite(postgres_database, tmp_path):
    (tmp_path / "sqlite").mkdir()
    (tmp_path / "postgres").mkdir()
    with running_shop(tmp_path / "sqlite") as lite, running_shop(tmp_path / "postgres", postgres_database) as postgres:
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
