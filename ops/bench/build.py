"""A running build of Kefu, this one or a commit's, with its own Kafka, Redis, shop and action server."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict

import psutil

from ops.bench.checkout import BuildError
from ops.bench.kefu import NO_LIMITS
from ops.bench.shop import add_customers
from ops.local.servers import LOCAL, ROOT
from ops.local.stack import PATIENCE

HOST_PROGRAM = ROOT / "ops" / "bench" / "build_stack.py"
STOP_S = 120.0  # longest wait for the build's stack to stop: each of its processes has up to 30 s
# PYTHONHASHSEED: the order in sets would otherwise differ from process to process, which can cost one build a few
# percent more CPU.
SETTINGS = {**NO_LIMITS, **PATIENCE, "PYTHONHASHSEED": "0"}


class Build:
    """The whole system of one build on free ports.

    Args:
        name: the build's name in the tables.
        root: the folder with the build's files.
        directory: the folder for its data and logs.
    """

    def __init__(self, name: str, root: Path, directory: Path) -> None:
        self.name = name
        self._root = root
        self._directory = directory
        self._facts: Dict[str, Any] = {}  # the line of JSON that build_stack.py prints when all is ready
        self._process: subprocess.Popen[str] | None = None

    @property
    def jobs(self) -> Dict[str, str]:
        """The fields of a `Job` by which the load generator reaches this build."""
        return {"url": self._facts["gateway"], "token_secret": self._facts["token_secret"]}

    @property
    def actions_metrics(self) -> str:
        """The URL of the action server's metrics."""
        return self._facts["actions_metrics"]

    @property
    def worker_metrics(self) -> str:
        """The URL of the worker's metrics."""
        return self._facts["worker_metrics"]

    def start(self) -> None:
        """Start all processes of the build and wait until they are ready. Raises BuildError if they don't get ready."""
        self._directory.mkdir(parents=True)
        python = self._root / ".local" / "services" / "bin" / "python"
        with open(self._directory / "stack.log", "wb") as log:
            self._process = subprocess.Popen(
                [str(python), "-P", str(HOST_PROGRAM), str(self._directory), json.dumps(SETTINGS)],
                cwd=self._root, env={**os.environ, "PYTHONPATH": str(self._root)},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BuildError(self._why_not(self._process))
        self._facts = json.loads(line)
        add_customers(Path(self._facts["shop_database"]))

    def stop(self) -> None:
        """Stop all processes. If the build is not ready yet, they are killed at once."""
        if self._process is None:
            return
        if not self._facts:
            self._process.kill()  # its processes die with it
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def pids(self) -> Dict[str, int]:
        """Return the process ids by name. Raises RuntimeError if a process has ended."""
        ended = [name for name, pid in self._facts["pids"].items() if not psutil.pid_exists(pid)]
        if ended:
            raise RuntimeError(f"{', '.join(ended)} of {self.name} ended while it was measured: look into its log")
        return self._facts["pids"]

    def _why_not(self, process: "subprocess.Popen[str]") -> str:
        """Return why the build did not start. Copies its logs, because its folder is temporary."""
        process.wait()
        logs = LOCAL / "bench" / "logs" / self.name
        shutil.rmtree(logs, ignore_errors=True)
        if (self._directory / "logs").is_dir():
            shutil.copytree(self._directory / "logs", logs)
        lines = (self._directory / "stack.log").read_text(errors="replace").strip().splitlines()
        why = lines[-1].partition(". Look into")[0] if lines else "it said nothing"
        return f"the build of {self.name} does not start ({why}): its logs are in {logs}"
