"""A build of Kefu, this one or a commit's, with Kafka, Redis, shop and action server of its own."""

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
STOP_S = 120.0  # its processes have up to 30 s each
# The order of sets and dictionaries of hashes is a chance of each process, and costs one build a few percent more.
SETTINGS = {**NO_LIMITS, **PATIENCE, "PYTHONHASHSEED": "0"}


class Build:
    """The whole system of one build on free ports.

    Args:
        name: as the tables call it.
        root: of the build's files.
        directory: of data and logs.
    """

    def __init__(self, name: str, root: Path, directory: Path) -> None:
        self.name = name
        self._root = root
        self._directory = directory
        self._told: Dict[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None

    @property
    def jobs(self) -> Dict[str, str]:
        """What a job needs to reach the system."""
        return {"url": self._told["gateway"], "token_secret": self._told["token_secret"]}

    @property
    def actions_metrics(self) -> str:
        """Where the action server tells its metrics."""
        return self._told["actions_metrics"]

    @property
    def worker_metrics(self) -> str:
        """Where the worker tells its metrics."""
        return self._told["worker_metrics"]

    def start(self) -> None:
        """Start all and wait until it is ready; raises BuildError if it doesn't get so far."""
        self._directory.mkdir(parents=True)
        python = self._root / ".local" / "services" / "bin" / "python"
        with open(self._directory / "stack.log", "wb") as log:
            self._process = subprocess.Popen(
                [str(python), "-P", str(HOST_PROGRAM), str(self._directory), json.dumps(SETTINGS)],
                cwd=self._root, env={**os.environ, "PYTHONPATH": str(self._root)},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        line = self._process.stdout.readline()
        if not line:
            raise BuildError(self._why_not())
        self._told = json.loads(line)
        add_customers(Path(self._told["shop_database"]))

    def stop(self) -> None:
        """Stop all that was started; at once with -9 what was not ready yet."""
        if self._process is None:
            return
        if not self._told:
            self._process.kill()  # its processes die with it
        self._process.stdin.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def pids(self) -> Dict[str, int]:
        """Return process ids by name; raises RuntimeError if one ended."""
        ended = [name for name, pid in self._told["pids"].items() if not psutil.pid_exists(pid)]
        if ended:
            raise RuntimeError(f"{', '.join(ended)} of {self.name} ended while it was measured: look into its log")
        return self._told["pids"]

    def _why_not(self) -> str:
        """Return why it did not start, and keep its logs, for the folder is temporary."""
        self._process.wait()
        logs = LOCAL / "bench" / "logs" / self.name
        shutil.rmtree(logs, ignore_errors=True)
        if (self._directory / "logs").is_dir():
            shutil.copytree(self._directory / "logs", logs)
        said = (self._directory / "stack.log").read_text(errors="replace").strip().splitlines()
        why = said[-1].partition(". Look into")[0] if said else "it said nothing"
        return f"the build of {self.name} does not start ({why}): its logs are in {logs}"
