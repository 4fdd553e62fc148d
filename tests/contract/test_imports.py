"""What both environments share imports under both interpreters; gateway and worker stay apart."""

import ast
import subprocess
from pathlib import Path

import pytest

from ops.local.servers import ROOT, services_python

SHARED = (
    "errors", "events", "headers", "health", "keys", "kafka", "logs", "metrics", "privacy", "redis_cluster",
    "redis_url", "settings",
)  # fmt: skip


@pytest.mark.parametrize("environment", ["services", "worker"])
def test_shared_modules_import_in_both_environments(environment):
    code = "; ".join(f"import kefu.{name}" for name in SHARED)
    done = subprocess.run([services_python(environment), "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_shared_modules_use_only_packages_pinned_alike_in_both_environments():
    pins = [pinned(ROOT / "ops" / "requirements" / f"{name}.txt") for name in ("services", "worker")]
    packages = {"confluent_kafka": "confluent-kafka", "prometheus_client": "prometheus-client", "orjson": "orjson"}
    used = {root for name in SHARED for root in imported(name)}
    for root in used & {*packages, "redis", "sanic", "structlog", "httpx", "sqlalchemy", "jwt", "aiohttp", "numpy"}:
        assert root in packages, f"{root} differs between the two environments"
        assert pins[0][packages[root]] == pins[1][packages[root]]


@pytest.mark.parametrize(("side", "other"), [("gateway", "worker"), ("worker", "gateway")])
def test_gateway_and_worker_never_import_each_other(side, other):
    for path in (ROOT / "kefu" / side).rglob("*.py"):
        assert not any(name.startswith(f"kefu.{other}") for name in modules(path)), path


def pinned(path: Path) -> dict:
    lines = [line.split()[0] for line in path.read_text().splitlines() if "==" in line and line[0].isalnum()]
    return dict(line.split("==") for line in lines)


def modules(path: Path) -> list:
    tree = ast.walk(ast.parse(path.read_text()))
    found = [
        [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for node in tree
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    return [name for names in found for name in names]


def imported(shared: str) -> set:
    paths = [ROOT / "kefu" / f"{shared}.py", *(ROOT / "kefu" / shared).glob("*.py")]
    return {name.split(".")[0] for path in paths if path.exists() for name in modules(path)}
