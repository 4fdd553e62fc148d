"""Gets the checking programs that no Python package brings into `.local/tools`: `python3 -m ops.local.tools`.

What can't be had here is named and noted, and no error: the tests that want it are skipped and say what was not
checked. With `KEFU_TOOLS=required`, as the workflows of GitHub and GitLab have it, it is one, here and in the tests.
Go builds two of them (this machine's, or one that comes as a package), Debian has the others (`apt-get update` first;
`apt-get install redis-tools` for a Redis that speaks TLS).
Nothing is installed outside of `.local`, no service is started.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Callable, Dict, List

from ops.local.setup import LOCAL, StepFailed, environment, find_uv, trust_system

TARGET = LOCAL / "tools"
# Source: each project's releases. Go checks what it fetches by the checksum database.
GO_MODULES = {
    "kube-score": "github.com/zegl/kube-score/cmd/kube-score@v1.20.0",
    "actionlint": "github.com/rhysd/actionlint/cmd/actionlint@v1.7.7",
}
PROMETHEUS = ("prometheus", "usr/bin/promtool")  # Debian's package, and the program's path in it
REQUIRED = os.environ.get("KEFU_TOOLS") == "required"
# Debian's redis-tools has the server too, under this name; it goes by the name that it is called by.
REDIS = "redis-check-rdb"


def main() -> int:
    """Get what is missing; returns 0, also where something can't be had that isn't required."""
    TARGET.mkdir(parents=True, exist_ok=True)
    trust_system()
    ways: Dict[str, Callable[[], object]] = {name: lambda name=name: by_go(name) for name in GO_MODULES}
    ways.update({"promtool": promtool, "redis-server": redis_server})
    missing = [name for name in ways if not (shutil.which(name) or (TARGET / name).exists())]
    got = [attempt(name, ways[name]) for name in missing]
    return int(REQUIRED and not all(got))


def attempt(name: str, get: Callable[[], object]) -> bool:
    """Get a program, or note why it can't be had; returns whether it is there."""
    noted = TARGET / f"{name}.missing"
    try:
        get()
        noted.unlink(missing_ok=True)
        print(f"✓ {name}", flush=True)
        return True
    except (OSError, subprocess.CalledProcessError, StepFailed) as error:
        noted.write_text(f"{error}\n")
        print(f"– {name} can't be had here ({error}): NOTHING WILL BE CHECKED BY IT", flush=True)
        return False


def by_go(name: str) -> None:
    """Build a program by this machine's Go or, where that is missing or too old, by the one of `go.txt`."""
    try:
        _build("go", name)
    except (OSError, subprocess.CalledProcessError):
        environment(find_uv(), "go", "3.12", "go.txt")
        _build(str(LOCAL / "go" / "bin" / "go"), name)


def _build(go: str, name: str) -> None:
    _run([go, "install", GO_MODULES[name]], {"GOBIN": str(TARGET), "GOFLAGS": "-trimpath"})


def promtool() -> None:
    """Take the program out of its Debian package: installed, that would start a server."""
    package, path = PROMETHEUS
    with tempfile.TemporaryDirectory() as folder:
        _run(["apt-get", "download", "-q", package], folder=folder)
        for archive in Path(folder).glob("*.deb"):
            _run(["dpkg-deb", "-x", str(archive), folder])
        shutil.copy(Path(folder) / path, TARGET / "promtool")


def redis_server() -> None:
    """Give the server its name."""
    found = shutil.which(REDIS)
    if not found:
        raise FileNotFoundError(f"no {REDIS}: apt-get install redis-tools")
    (TARGET / "redis-server").symlink_to(found)


def _run(command: List[str], environment: Dict[str, str] = {}, folder: str = ".") -> None:  # noqa: B006 - never changed
    subprocess.run(command, env={**os.environ, **environment}, cwd=folder, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
