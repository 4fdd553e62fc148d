"""An installation in Kubernetes, changed by Helm and queried by kubectl."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

from ops.release.changes import Refused

Done = subprocess.CompletedProcess[str]
CHART = Path(__file__).parents[1] / "charts" / "kefu"
OPERATION_S = 900  # Helm's limit for each wait: first the topics' job, which has 600 s itself, then the pods
# Limit of one Helm command, longer than all its waits: a killed Helm leaves its release pending.
APPLIED_S = 2 * OPERATION_S + 300
ASKED_S = 240  # limit of a command that only asks, or that runs the check in a worker's pod
STOP_S = 30  # a program that gets SIGTERM has this long to end before it is killed


class Kubernetes:
    """A Helm release in a namespace. See `ops.release.steps.Site`."""

    def __init__(self, name: str, namespace: str, values: list[Path], chart: Path = CHART) -> None:
        """Check that the programs helm and kubectl are installed.

        Args:
            name: name of the Helm release.
            namespace: namespace of the Helm release.
            values: the installation's values files, in Helm's order.
            chart: directory or archive of the chart.

        Raises:
            Refused: helm or kubectl is missing.
        """
        self._name, self._namespace, self._values, self._chart = name, namespace, values, chart
        for program in ("helm", "kubectl"):
            if not shutil.which(program):
                raise Refused(f"{program} is not installed")

    def expect_free(self) -> None:
        """Ask Helm for a pending change: it upgrades nothing before that has ended."""
        done = self._ended(["helm", "status", self._name, "-n", self._namespace, "-o", "json"], ASKED_S)
        if done.returncode and "not found" in done.stderr:
            return
        status = json.loads(self._output(done))["info"]["status"]
        if status.startswith("pending-"):
            way = "uninstall" if status == "pending-install" else "rollback --no-hooks"
            raise Refused(
                f"Helm says {status}: another helm is at work, or was killed. Once none runs any more: "
                f"`helm {way} {self._name} -n {self._namespace}`, then this command again; nothing was changed"
            )

    def apply(self, file: Path, wait: bool) -> None:
        """Upgrade, wait for ready pods if `wait`, then make the kubelets write the changed ConfigMap at once."""
        files = [word for each in (*self._values, file) for word in ("-f", str(each))]
        upgrade = ["helm", "upgrade", "--install", self._name, str(self._chart), "-n", self._namespace, *files]
        # Without `wait` the topics' job is skipped too: during `back` its image may be the bad release's.
        self._run([*upgrade, "--wait" if wait else "--no-hooks", "--timeout", f"{OPERATION_S}s"], APPLIED_S)
        # A changed annotation makes a kubelet check the pod's volumes now instead of in its next round, a minute later.
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        pods = ["pods", "-l", f"{self._own},app.kubernetes.io/component in (worker,worker-green)"]
        self._run([*self._kubectl, "annotate", "--overwrite", *pods, f"kefu.io/release={digest}"], ASKED_S)

    def ask(self, track: str, *words: str) -> tuple[int, str]:
        """Run `python -m kefu release WORDS` in a worker's pod of the track; return exit code and output."""
        component = "worker" if track == "blue" else "worker-green"
        selector = f"{self._own},app.kubernetes.io/component={component}"
        deployments = self._run([*self._kubectl, "get", "deployments", "-l", selector, "-o", "name"], ASKED_S).split()
        if not deployments:
            return 1, f"there is no Deployment of {track}"
        command = [
            *self._kubectl,
            "exec",
            deployments[0],
            "-c",
            "worker",
            "--",
            "python",
            "-m",
            "kefu",
            "release",
            *words,
        ]
        done = self._ended(command, ASKED_S)
        return done.returncode, done.stdout or done.stderr

    def ready(self) -> dict[str, int]:
        """Return the number of ready pods of each component."""
        deployments = self._run([*self._kubectl, "get", "deployments", "-l", self._own, "-o", "json"], ASKED_S)
        return {
            each["metadata"]["labels"]["app.kubernetes.io/component"]: each.get("status", {}).get("readyReplicas", 0)
            for each in json.loads(deployments)["items"]
        }

    @property
    def _own(self) -> str:
        return f"app.kubernetes.io/instance={self._name}"

    @property
    def _kubectl(self) -> list[str]:
        return ["kubectl", "-n", self._namespace]

    def _run(self, command: list[str], timeout_s: float) -> str:
        return self._output(self._ended(command, timeout_s))

    @staticmethod
    def _output(done: Done) -> str:
        if done.returncode:
            raise Refused(f"{' '.join(done.args[:3])}: {done.stderr.strip()[-1000:]}")
        return done.stdout

    @staticmethod
    def _ended(command: list[str], timeout_s: float) -> Done:
        """Run a program to its end. After `timeout_s` it gets SIGTERM first: Helm then marks its release as failed."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                output, errors = process.communicate(timeout=timeout_s)
                return subprocess.CompletedProcess(command, process.returncode, output, errors)
            except subprocess.TimeoutExpired:
                process.terminate()
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
        raise Refused(f"{' '.join(command[:3])}: no end within {timeout_s:.0f} s, so it was stopped")
