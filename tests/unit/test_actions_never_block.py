"""No action may use a blocking client or sleep: one would stall every conversation of the action server."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKING_MODULES = {"requests", "urllib", "urllib3", "http", "socket", "subprocess", "smtplib", "ftplib", "sqlite3"}
BLOCKING_CALLS = {"time.sleep", "os.system", "open", "httpx.Client", "httpx.get", "httpx.post", "httpx.request"}
SOURCES = [*(ROOT / "actions").rglob("*.py"), *(ROOT / "ops/local/shop").rglob("*.py")]


def blocking(source: str) -> set[str]:
    """Return the blocking modules that a source imports, and the blocking functions that it calls."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.partition(".")[0] in BLOCKING_MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= imports & BLOCKING_CALLS
            names |= {node.module} if node.module.partition(".")[0] in BLOCKING_MODULES else set()
        elif isinstance(node, ast.Call):
            names |= {ast.unparse(node.func)} & BLOCKING_CALLS
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_action_server_and_shop_use_no_blocking_calls(path):
    assert blocking(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "source",
    ["import requests", "from urllib.request import urlopen", "import time\ntime.sleep(1)", "from time import sleep",
     "import httpx\nhttpx.get('x')", "open('x')"],
)  # fmt: skip
def test_blocking_calls_are_found(source):
    assert blocking(source)


def test_check_for_blocking_calls_finds_its_sources():
    assert len(SOURCES) > 8
