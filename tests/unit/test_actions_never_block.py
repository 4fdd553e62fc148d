"""One blocking action would stall every conversation: none may use a client or a sleep that blocks."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKING_MODULES = {"requests", "urllib", "urllib3", "http", "socket", "subprocess", "smtplib", "ftplib", "sqlite3"}
BLOCKING_CALLS = {"time.sleep", "os.system", "open", "httpx.Client", "httpx.get", "httpx.post", "httpx.request"}
SOURCES = [*(ROOT / "actions").rglob("*.py"), *(ROOT / "ops/local/shop").rglob("*.py")]


def blocking(source: str) -> set[str]:
    """Return what a module imports or calls that blocks."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.partition(".")[0] in BLOCKING_MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & BLOCKING_CALLS
            found |= {node.module} if node.module.partition(".")[0] in BLOCKING_MODULES else set()
        elif isinstance(node, ast.Call):
            found |= {ast.unparse(node.func)} & BLOCKING_CALLS
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_uses_no_blocking_client(path):
    assert blocking(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "source",
    ["import requests", "from urllib.request import urlopen", "import time\ntime.sleep(1)", "from time import sleep",
     "import httpx\nhttpx.get('x')", "open('x')"],
)  # fmt: skip
def test_blocking_ones_are_recognised(source):
    assert blocking(source)


def test_there_is_something_to_check():
    assert len(SOURCES) > 8
