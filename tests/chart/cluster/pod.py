"""One pod: volumes are directories, containers are processes; with probes and a graceful end."""

import base64
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ops.local.servers import JARS, LOCAL, ROOT, cached_classes, java, redis_binary
from tests.chart.cluster.network import Identity

Manifest = dict[str, Any]
LAUNCHER = Path(__file__).with_name("contained.py")
# The Python environment that an image is built from, by the last part of the image's repository.
PYTHONS = {"services": LOCAL / "services" / "bin" / "python", "worker": LOCAL / "worker" / "bin" / "python"}
JAVA_MAINS = {"kafka-storage.sh": "kafka.tools.StorageTool", "kafka-server-start.sh": "kafka.Kafka"}
RESTART_BACKOFF_S = 1.0


def program(command: list[str], image: str, environment: dict[str, str]) -> list[str]:
    """Return the command of this machine that does what a command does in its image."""
    name = Path(command[0]).name
    if name in JAVA_MAINS:
        heap = environment.get("KAFKA_HEAP_OPTS", "").split()
        options = [*heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return [str(java()), *options, *cached_classes(), "-cp", f"{JARS}/*", JAVA_MAINS[name], *command[1:]]
    if name == "valkey-server":
        return [redis_binary(), *command[1:]]
    if name == "python":
        repository = re.split("[:@]", image)[0].rpartition("/")[2]
        return [str(PYTHONS[repository]), *command[1:]]
    raise ValueError(f"{command[0]}: no such program in the image {image}")


class Pod:
    """A pod made from a template. `start` returns at once.

    Args:
        name: the pod's name.
        template: spec and labels.
        configs: ConfigMaps and Secrets by kind and name.
        address: the pod's own address on loopback.
        directory: for the pod's volumes and logs.
        translate: replaces names of Services in a text by addresses.
    """

    def __init__(
        self,
        name: str,
        template: Manifest,
        namespace: str,
        configs: dict[tuple[str, str], Manifest],
        address: str,
        directory: Path,
        translate: Callable[[str], str],
    ) -> None:
        self.name, self.address, self.directory = name, address, directory
        self.template, self.spec = template, template["spec"]
        self._configs, self._services = configs, translate
        ports = {port["name"]: port["containerPort"] for c in self.spec["containers"] for port in c.get("ports", [])}
        self.identity = Identity(name, template["metadata"]["labels"], namespace, ports)
        self.ready = False
        self.started = threading.Event()
        self.succeeded = False
        self.terminating = False
        self.restarts = 0
        self.killed = False  # whether the grace period was too short
        self.ended = threading.Event()
        self.peak_bytes = 0
        self.readiness: list[tuple[float, bool]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self.number = 0
        self._filling = threading.Lock()  # ConfigMaps may be changed while a container restarts
        directory.mkdir(parents=True)
        self._volumes = {volume["name"]: self._volume(volume) for volume in self.spec.get("volumes", [])}

    @property
    def pid(self) -> int:
        """The process id of the running container, 0 if none runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    def kill(self) -> None:
        """Kill the running container, as the kernel does when memory is exhausted."""
        assert self._process is not None and self._process.poll() is None, f"{self.name} does not run"
        self._process.kill()

    def log(self) -> str:
        """Return the last 3,000 characters of the containers' output."""
        path = self.directory / "log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def start(self) -> None:
        """Run the init containers, then the container. A container that ends unexpectedly is restarted."""
        threading.Thread(target=self._live, name=self.name, daemon=True).start()

    def stop(self) -> None:
        """Begin to end the pod: preStop, SIGTERM, SIGKILL after the grace period. Return at once."""
        if not self.terminating:
            self.terminating = True
            self._set_ready(False)
            threading.Thread(target=self._end, name=f"{self.name}-end", daemon=True).start()

    def refresh(self) -> None:
        """Rewrite the files of changed ConfigMaps and Secrets, as the kubelet does while containers run."""
        if self._process is not None and not self.terminating:
            self._translation(self.spec["containers"][0])

    def exec(self, command: list[str]) -> "subprocess.Popen[bytes]":
        """Start a command beside the container, with the same environment and a readable output."""
        return self._start(self.spec["containers"][0], command, subprocess.PIPE, subprocess.DEVNULL)

    def _live(self) -> None:
        for container in self.spec.get("initContainers", []):
            while not self.terminating and self._run(container).wait() != 0:
                self.restarts += 1
                time.sleep(RESTART_BACKOFF_S)
        container = self.spec["containers"][0]
        while not self.terminating:
            process = self._run(container)
            watch = threading.Thread(target=self._watch, args=(container, process), daemon=True)
            watch.start()
            status = process.wait()
            watch.join()
            self._set_ready(False)
            if self.terminating:
                break
            if status == 0 and self.spec.get("restartPolicy", "Always") != "Always":
                self.succeeded = True
                break
            self.restarts += 1
            time.sleep(RESTART_BACKOFF_S)
        if not self.terminating:
            self.ended.set()

    def _run(self, container: Manifest) -> "subprocess.Popen[bytes]":
        with open(self.directory / "log", "ab") as log:
            self._process = self._start(container, container["command"], log, log)
        return self._process

    def _start(self, container: Manifest, command: list[str], out: Any, err: Any) -> "subprocess.Popen[bytes]":
        text = self._translation(container)
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= {each["name"]: text(str(each["value"])) for each in container.get("env", [])}
        environment["TMPDIR"] = text("/tmp")
        command = program([text(part) for part in command], container["image"], environment)
        writable = [
            str(self._volumes[mount["name"]])
            for mount in container.get("volumeMounts", [])
            if not mount.get("readOnly")
        ]
        return subprocess.Popen(
            [sys.executable, str(LAUNCHER), *writable, "--", *command],
            cwd=ROOT, env=environment, stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip

    def _translation(self, container: Manifest) -> Callable[[str], str]:
        """Return a function that replaces a container's paths, own addresses and Service names by this machine's."""
        mounts = {mount["mountPath"]: str(self._volumes[mount["name"]]) for mount in container.get("volumeMounts", [])}
        mounts["/app"] = str(ROOT)
        with self._filling:
            self._fill(container, mounts)
        return lambda text: self._outside(text, mounts)

    def _outside(self, text: str, mounts: dict[str, str]) -> str:
        paths = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
        text = re.sub(rf"(?<![\w.-])({paths})(?![\w.-])", lambda match: mounts[match[1]], text)
        text = re.sub(r"\b(0\.0\.0\.0|localhost)\b", self.address, text)
        return self._services(text)

    def _volume(self, volume: Manifest) -> Path:
        path = self.directory / "volumes" / volume["name"]
        path.mkdir(parents=True)
        return path

    def _fill(self, container: Manifest, mounts: dict[str, str]) -> None:
        """Write the files of ConfigMaps and Secrets into their volumes."""
        for volume in self.spec.get("volumes", []):
            for kind, key, name in (("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")):
                if key in volume:
                    files = _files(self._configs[kind, volume[key][name]])
                    for item in volume[key].get("items") or [{"key": each, "path": each} for each in files]:
                        text = self._outside(files[item["key"]], mounts)
                        path = self._volumes[volume["name"]] / item["path"]
                        path.with_name(f".{path.name}").write_text(text)
                        path.with_name(f".{path.name}").replace(path)  # atomically, as the kubelet does

    def _watch(self, container: Manifest, process: "subprocess.Popen[bytes]") -> None:
        """Poll the probes until the process ends, and kill the process if its liveness probe fails."""

        def alive() -> bool:
            return process.poll() is None and not self.terminating

        self.started.clear()
        if not self._until(container.get("startupProbe"), alive):
            return
        self.started.set()
        if "readinessProbe" not in container:
            self._set_ready(True)
        due = dict.fromkeys(("readiness", "liveness"), time.monotonic())
        failures = dict.fromkeys(due, 0)
        while alive():
            for kind in due:
                probe = container.get(f"{kind}Probe")
                if probe is None or time.monotonic() < due[kind]:
                    continue
                due[kind] = time.monotonic() + probe.get("periodSeconds", 10)
                failures[kind] = 0 if self._probe(probe) else failures[kind] + 1
                failed = failures[kind] >= probe.get("failureThreshold", 3)
                if kind == "readiness" and (failed or not failures[kind]):
                    self._set_ready(not failed)
                if kind == "liveness" and failed:
                    process.kill()
            self._look_at_memory(process.pid)
            time.sleep(0.1)

    def _until(self, probe: Manifest | None, alive: Callable[[], bool]) -> bool:
        failures = 0
        while probe is not None and alive() and not self._probe(probe):
            failures += 1
            if failures >= probe.get("failureThreshold", 3):
                os.killpg(self._process.pid, signal.SIGKILL)
                return False
            time.sleep(probe.get("periodSeconds", 10))
        return alive()

    def _probe(self, probe: Manifest) -> bool:
        action = probe.get("httpGet") or probe["tcpSocket"]
        port = self.identity.ports.get(action["port"], action["port"])
        timeout = probe.get("timeoutSeconds", 1)
        try:
            if "httpGet" not in probe:
                socket.create_connection((self.address, port), timeout).close()
                return True
            with urllib.request.urlopen(f"http://{self.address}:{port}{action['path']}", timeout=timeout) as answer:
                return 200 <= answer.status < 400
        except (OSError, urllib.error.URLError):
            return False

    def _set_ready(self, ready: bool) -> None:
        if ready != self.ready and not (ready and self.terminating):
            self.ready = ready
            self.readiness.append((time.monotonic(), ready))

    def _look_at_memory(self, pid: int) -> None:
        with contextlib.suppress(OSError):
            match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            self.peak_bytes = max(self.peak_bytes, int(match[1]) * 1024 if match else 0)

    def _end(self) -> None:
        deadline = time.monotonic() + self.spec.get("terminationGracePeriodSeconds", 30)
        lifecycle = self.spec["containers"][0].get("lifecycle", {})
        time.sleep(lifecycle.get("preStop", {}).get("sleep", {}).get("seconds", 0))
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.killed = True
                process.kill()
                process.wait()
        self.ended.set()


def _files(config: Manifest) -> dict[str, str]:
    """Return the content of a ConfigMap or Secret by key."""
    data = dict(config.get("data", {}))
    if config["kind"] == "Secret":
        data = {key: base64.b64decode(value).decode() for key, value in data.items()} | config.get("stringData", {})
    return data
