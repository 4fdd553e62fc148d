"""The controllers: Deployments with rolling updates, StatefulSets, DaemonSets, Jobs, and their Services."""

import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.chart.cluster.network import Identity, Network, Policies, connections, outgoing, sockets_of
from tests.chart.cluster.pod import Pod
from tests.tls_files import Authority
from tests.waiting import DEADLINE_S, until

Manifest = dict[str, Any]
TICK_S = 0.1
LOOK_S = 0.5
DECIDED_S = 60.0
OWNERS = ("Deployment", "StatefulSet", "DaemonSet", "Job")  # a DaemonSet has one pod because there is one node
# Connections from this process count as the customers', who come through the ingress controller.
CUSTOMERS = Identity("ingress", {"app": "ingress"}, "ingress-nginx")


class Cluster:
    """A namespace in which manifests are applied. A context manager: at its end all pods are stopped."""

    def __init__(self, directory: Path, namespace: str) -> None:
        self._directory, self._namespace = directory, namespace
        self.network = Network(self._who)
        self.network.pids = lambda: [*self._strangers, os.getpid(), *(pod.pid for pod in self.pods() if pod.pid)]
        self._owners: dict[str, Manifest] = {}  # of OWNERS, by name
        self._pods: dict[str, list[Pod]] = {}
        self._configs: dict[tuple[str, str], Manifest] = {}
        self._selectors: dict[str, dict[str, str]] = {}  # of Services, by name; they can change while pods run
        self._authority = Authority()
        self._strangers: dict[int, Identity] = {}
        self._number = 0
        self.ended: list[Pod] = []
        self.past_services: set[tuple[str, str]] = set()  # connections that bypass Services: owner's name and target
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._controller = threading.Thread(target=self._control, name="controllers", daemon=True)

    def __enter__(self) -> "Cluster":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._controller.join()
        for pod in self.pods():
            pod.stop()
        for pod in self.pods():
            pod.ended.wait(60)
        self.network.stop()

    def apply(self, manifests: list[Manifest]) -> None:
        """Begin to change the namespace into what the manifests describe; return at once."""
        with self._lock:
            for service in (each for each in manifests if each["kind"] == "Service"):
                self._serve(service)
            for each in manifests:
                if each["kind"] in ("ConfigMap", "Secret"):
                    self._configs[each["kind"], each["metadata"]["name"]] = each
            for pod in self.pods():
                pod.refresh()
            self._issue([each for each in manifests if each["kind"] == "Certificate"])
            self.network.policies = Policies(manifests, self._namespace)
            for each in manifests:
                if each["kind"] in OWNERS:
                    name = each["metadata"]["name"]
                    self._owners[name] = each
                    self._pods.setdefault(name, [])
            for name in self._owners.keys() - {
                each["metadata"]["name"] for each in manifests if each["kind"] in OWNERS
            }:
                del self._owners[name]
                for pod in self._pods[name]:
                    pod.stop()

    def scale(self, name: str, replicas: int) -> None:
        """Begin to change a Deployment's number of pods; return at once."""
        with self._lock:
            self._owners[name]["spec"]["replicas"] = replicas

    def pods(self, owner: str | None = None) -> list[Pod]:
        """Return the pods that have not ended, of one owner or all."""
        with self._lock:
            owners = [owner] if owner else list(self._pods)
            return [pod for name in owners for pod in self._pods.get(name, [])]

    def settled(self, name: str) -> bool:
        """Return whether an owner has exactly its pods, all new and ready; for a Job, whether it has succeeded."""
        with self._lock:
            owner, pods = self._owners[name], self._pods[name]
            if owner["kind"] == "Job":
                return any(pod.succeeded for pod in pods)
            new = [pod for pod in pods if pod.template == owner["spec"]["template"]]
            return len(pods) == len(new) == owner["spec"].get("replicas", 1) and all(pod.ready for pod in pods)

    def wait_settled(self, deadline_s: float = DEADLINE_S) -> None:
        """Wait until all owners are settled; raise AssertionError with the logs of those that are not."""
        try:
            until(lambda: all(map(self.settled, self._owners)), "all owners to be settled", deadline_s)
        except AssertionError as error:
            missing = [pod for name in self._owners if not self.settled(name) for pod in self.pods(name)]
            logs = [f"== {pod.name} ({pod.restarts} restarts)\n{pod.log()}" for pod in missing]
            raise AssertionError("\n".join([str(error), *logs])) from error

    def url(self, service: str, port: int) -> str:
        """Return a Service's address for customers."""
        return f"http://{self.network.services[service]}:{port}"

    def connects(self, who: Identity, service: str, port: int) -> bool:
        """Return whether a program of this identity may connect to a Service. A refused connection must be closed."""
        code = (
            "import socket,sys\nsys.stdin.readline()\n"
            f"s=socket.create_connection(({self.network.services[service]!r},{port}),{DECIDED_S})\n"
            f"s.settimeout({DECIDED_S})\n"
            "try: sys.exit(0 if s.recv(1) else 1)\n"
            "except ConnectionError: sys.exit(1)\n"
        )
        self._number += 1
        caller = replace(who, name=f"{who.name}-caller-{self._number}")
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
        self._strangers[process.pid] = caller
        try:
            process.stdin.write(b"\n")
            process.stdin.close()
            let_in = self.network.decision(caller.name, DECIDED_S)
            assert let_in or process.wait(DECIDED_S) == 1, f"{who.name} was refused, but its connection stayed open"
        finally:
            process.kill()
            process.wait()
            del self._strangers[process.pid]
        return let_in

    def run(self, pod: Pod, command: list[str], deadline_s: float = 120.0) -> tuple[int, str]:
        """Run a command in a pod, as `kubectl exec` does, to its end; return its exit code and output."""
        process = pod.exec(command)
        self._strangers[process.pid] = pod.identity
        try:
            output, _ = process.communicate(timeout=deadline_s)
        finally:
            process.kill()
            del self._strangers[process.pid]
        return process.returncode, output.decode()

    def _issue(self, certificates: list[Manifest]) -> None:
        """Make the Secret of each Certificate, as cert-manager does; without DNS, also for the Service's address."""
        for each in (each["spec"] for each in certificates if not each["spec"].get("isCA")):
            host = each["dnsNames"][0]
            addresses = [self.network.services[host]] if host in self.network.services else []
            files = self._authority.issue(host, addresses)
            self._configs.setdefault(("Secret", each["secretName"]), {"kind": "Secret", "stringData": files})

    def _who(self, pid: int) -> Identity | None:
        if pid in self._strangers:
            return self._strangers[pid]
        if pid == os.getpid():
            return CUSTOMERS
        return next((pod.identity for pod in self.pods() if pod.pid == pid), None)

    def _serve(self, service: Manifest) -> None:
        name, spec = service["metadata"]["name"], service["spec"]
        if spec.get("clusterIP") == "None":
            return
        self._selectors[name] = spec["selector"]
        if name in self.network.services:
            return
        self.network.services[name] = self.network.address()
        for port in spec["ports"]:
            self.network.serve(name, port["port"], lambda port=port: self._endpoints(name, spec, port["targetPort"]))

    def _endpoints(self, name: str, spec: Manifest, port: str) -> list[tuple[Identity, str, int]]:
        early = spec.get("publishNotReadyAddresses", False)
        return [
            (pod.identity, pod.address, pod.identity.ports[port])
            for pod in self.pods()
            if self._selectors[name].items() <= pod.identity.labels.items()
            and (pod.ready or early)
            and not pod.terminating
        ]

    def _translate(self, text: str) -> str:
        """Replace names of Services before a port by their addresses, as DNS would."""
        names = "|".join(map(re.escape, self.network.services))
        domain = rf"(?:\.{self._namespace}(?:\.svc(?:\.cluster\.local)?)?)?"
        pattern = rf"(?<![\w.-])({names}){domain}(?=:\d)"
        return re.sub(pattern, lambda name: self.network.services[name[1]], text)

    def _look(self) -> None:
        """Note the pods' connections that lead neither to a Service nor to the pod itself."""
        services = set(self.network.services.values())
        pods = [(name, pod, sockets_of(pod.pid)) for name in list(self._pods) for pod in self.pods(name)]
        rows = connections()
        for name, pod, sockets in pods:
            known = services | {pod.address}
            opened = outgoing(sockets, rows, pod.identity.ports.values())
            self.past_services |= {(name, where) for where in opened if where.partition(":")[0] not in known}

    def _control(self) -> None:
        looked = 0.0
        while not self._closing.wait(TICK_S):
            if time.monotonic() - looked > LOOK_S:
                self._look()
                looked = time.monotonic()
            with self._lock:
                for name, pods in self._pods.items():
                    gone = [pod for pod in pods if pod.terminating and pod.ended.is_set()]
                    self.ended += gone
                    self._pods[name] = [pod for pod in pods if pod not in gone]
                    if name in self._owners:
                        self._reconcile(name, self._owners[name])

    def _reconcile(self, name: str, owner: Manifest) -> None:
        """Do one step towards the owner's specification. Source: Kubernetes, Deployments, rolling update."""
        template = owner["spec"]["template"]
        pods = [pod for pod in self._pods[name] if not pod.terminating]
        if owner["kind"] != "Deployment":
            for pod in (pod for pod in pods if pod.template != template and owner["kind"] != "Job"):
                pod.stop()
            if not self._pods[name]:
                self._create(name, template)
            return
        wanted = owner["spec"]["replicas"]
        rolling = owner["spec"].get("strategy", {}).get("rollingUpdate", {"maxSurge": 0, "maxUnavailable": wanted})
        new = [pod for pod in pods if pod.template == template]
        old = [pod for pod in pods if pod.template != template]
        room = wanted + (_share(rolling["maxSurge"], wanted) if old else 0) - len(pods)
        for _ in range(min(room, wanted - len(new))):
            self._create(name, template)
        for pod in sorted(new, key=lambda pod: (pod.ready, -pod.number))[: max(0, len(new) - wanted)]:
            pod.stop()  # pods that aren't ready first, then the youngest
        spare = sum(pod.ready for pod in pods) - (wanted - rolling["maxUnavailable"])
        for pod in sorted(old, key=lambda pod: pod.ready):
            if not pod.ready or spare > 0:
                spare -= pod.ready
                pod.stop()

    def _create(self, name: str, template: Manifest) -> None:
        self._number += 1
        own = f"{name}-{self._number}"
        where = (self.network.address(), self._directory / own)
        pod = Pod(own, template, self._namespace, self._configs, *where, self._translate)
        pod.number = self._number
        self._pods[name].append(pod)
        pod.start()


def _share(part: int | str, whole: int) -> int:
    """Return a number of pods, given as a number or as a percentage of `whole`, which is rounded up like a surge."""
    return part if isinstance(part, int) else -(-whole * int(part.removesuffix("%")) // 100)
