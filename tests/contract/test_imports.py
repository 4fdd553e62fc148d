"""Shared modules can be imported under both interpreters. import-linter (pyproject.toml) checks the layers."""

import ast
import subprocess
from pathlib import Path

import pytest

from ops.local.servers import ROOT, services_python

KEFU = ROOT / "kefu"
SHARED = sorted({path.stem for path in KEFU.glob("*.py")} - {"__init__", "__main__"} | {"settings"})


@pytest.mark.parametrize("environment", ["services", "worker"])
def test_shared_modules_import_in_both_environments(environment):
    """The modules of kefu/*.py and kefu.settings run in the services' and in the worker's Python."""
    code = "; ".join(f"import kefu.{name}" for name in SHARED)
    done = subprocess.run([services_python(environment), "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_shared_modules_use_packages_pinned_at_one_version():
    """Both lock files must pin a package that a shared module imports at the same version."""
    pins = [pinned(ROOT / "ops" / "requirements" / f"{name}.txt") for name in ("services", "worker")]
    packages = {"confluent_kafka": "confluent-kafka", "prometheus_client": "prometheus-client", "orjson": "orjson"}
    used = {root for name in SHARED for root in imported(name)}
    for root in used & {*packages, "redis", "sanic", "structlog", "httpx", "sqlalchemy", "jwt", "aiohttp", "numpy"}:
        assert root in packages, f"{root} differs between the two environments"
        assert pins[0][packages[root]] == pins[1][packages[root]]


def pinned(path: Path) -> dict:
    lines = [line.split()[0] for line in path.read_text().splitlines() if "==" in line and line[0].isalnum()]
    return dict(line.split("==") for line in lines)


def modules(path: Path) -> list:
    tree = ast.walk(ast.parse(path.read_text()))
    imports = [
        [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        for node in tree
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    return [name for names in imports for name in names]


def imported(shared: str) -> set:
    paths = [KEFU / f"{shared}.py", *(KEFU / shared).glob("*.py")]
    return {name.split(".")[0] for path in paths if path.exists() for name in modules(path)}
