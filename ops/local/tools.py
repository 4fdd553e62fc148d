"""`python3 -m ops.local.tools`: gets the checking programs that no Python package contains into `.local/tools`.

A program that can't be had is printed and noted, and is no error: the tests that need it are skipped, and say what was
not checked. With `KEFU_TOOLS=required`, which the workflows of GitHub and GitLab set, a missing program is an error,
here and in the tests. Two programs are built with Go (the machine's, or a Python package's). The others come from
Debian (`apt-get update` first; `apt-get install redis-tools` for a Redis with TLS). Nothing is installed outside of
`.local`, and no service is started.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List

from ops.local.setup import LOCAL, StepFailed, environment, find_uv, trust_system

TARGET = LOCAL / "tools"
# Source: each project's releases. Go checks the downloaded modules against the checksum database.
GO_MODULES = {
    "kube-score": "github.com/zegl/kube-score/cmd/kube-score@v1.20.0",
    "actionlint": "github.com/rhysd/actionlint/cmd/actionlint@v1.7.7",
}
PROMETHEUS = ("prometheus", "usr/bin/promtool")  # Debian's package, and the program's path in it
REQUIRED = os.environ.get("KEFU_TOOLS") == "required"
# Debian's package redis-tools contains the server under this name. The program acts as the server if it is called
# `redis-server`.
REDIS = "redis-check-rdb"


def main() -> int:
    """Get the missing programs; return 0, or 1 if one can't be had and KEFU_TOOLS is `required`."""
    TARGET.mkdir(parents=True, exist_ok=True)
    trust_system()
    ways: Dict[str, Callable[[], object]] = {name: partial(by_go, name) for name in GO_MODULES}
    ways.update({"promtool": promtool, "redis-server": redis_server})
    missing = [name for name in ways if not (shutil.which(name) or (TARGET / name).exists())]
    got = [attempt(name, ways[name]) for name in missing]
    return int(REQUIRED and not all(got))


def attempt(name: str, get: Callable[[], object]) -> bool:
    """Get a program, or write the reason why it can't be had to a file; return whether the program is there."""
    note = TARGET / f"{name}.missing"
    try:
        get()
        note.unlink(missing_ok=True)
        print(f"✓ {name}", flush=True)
        return True
    except (OSError, subprocess.CalledProcessError, StepFailed) as error:
        note.write_text(f"{error}\n")
        print(f"– {name} can't be had here ({error}): NOTHING WILL BE CHECKED BY IT", flush=True)
        return False


def by_go(name: str) -> None:
    """Build a program with this machine's Go; if that is missing or too old, with the Go of requirements/go.txt."""
    try:
        _build("go", name)
    except (OSError, subprocess.CalledProcessError):
        environment(find_uv(), "go", "3.12", "go.txt")
        _build(str(LOCAL / "go" / "bin" / "go"), name)


def _build(go: str, name: str) -> None:
    _run([go, "install", GO_MODULES[name]], {"GOBIN": str(TARGET), "GOFLAGS": "-trimpath"})


def promtool() -> None:
    """Extract promtool from its Debian package without installing the package, which would start a server."""
    package, path = PROMETHEUS
    with tempfile.TemporaryDirectory() as folder:
        _run(["apt-get", "download", "-q", package], folder=folder)
        for archive in Path(folder).glob("*.deb"):
            _run(["dpkg-deb", "-x", str(archive), folder])
        shutil.copy(Path(folder) / path, TARGET / "promtool")


def redis_server() -> None:
    """Link `redis-server` to the program of Debian's redis-tools that contains the server."""
    program = shutil.which(REDIS)
    if not program:
        raise FileNotFoundError(f"no {REDIS}: apt-get install redis-tools")
    (TARGET / "redis-server").symlink_to(program)


def _run(command: List[str], environment: Dict[str, str] = {}, folder: str = ".") -> None:  # noqa: B006 - never changed
    subprocess.run(command, env={**os.environ, **environment}, cwd=folder, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
