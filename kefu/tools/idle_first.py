"""`python -m kefu idle-first`: makes Kubernetes remove idle pods first when it scales down.

In: the CPU use of each pod of a selector, from the metrics API. Out: the annotation by which a ReplicaSet chooses the
pod to delete among ready pods. The command runs once and ends; the chart runs it each minute.
Source: Kubernetes, ReplicaSet, "Pod deletion cost".
"""

import argparse
import json
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any, Dict, List, Optional

COST = "controller.kubernetes.io/pod-deletion-cost"  # annotation: a ReplicaSet deletes the pods with low costs first
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TIMEOUT_S = 10.0  # longest wait for an answer of the API server
# Source: Kubernetes, resource quantities, as the metrics API writes them.
UNITS = {"n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1)}


def main(arguments: List[str]) -> int:
    """Update the annotations once; returns 0, or 1 after printing the API server's refusal."""
    parser = argparse.ArgumentParser(prog="kefu idle-first", description=__doc__.splitlines()[0])
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--selector", required=True, help="labels of the pods, as kubectl takes them")
    parser.add_argument("--api", default="https://kubernetes.default.svc")
    parser.add_argument("--account", default=ACCOUNT, help="directory with token and ca.crt")
    words = parser.parse_args(arguments)
    api = Api(words.api, Path(words.account), words.namespace)
    try:
        costs = changes(api.pods(words.selector), api.used(words.selector))
        for name, cost in costs.items():
            api.set_cost(name, cost)
    except urllib.error.HTTPError as error:
        print(f"kefu idle-first: the API server answered {error.code} to {error.url}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"kefu idle-first: {error}", file=sys.stderr)
        return 1
    print(f"{len(costs)} pods changed")
    return 0


def changes(pods: List[Dict[str, Any]], used: Dict[str, Decimal]) -> Dict[str, int]:
    """Return the new cost of each pod whose annotation has to change.

    The cost rises by one when a pod's CPU use doubles, so that few pods change at a time: the API server stores each
    annotation. A pod without a CPU figure yet has the cost 0 and is removed before working pods.

    Args:
        pods: pods as the API server lists them.
        used: pod name to used cores.
    """
    changed = {}
    for pod in pods:
        name = pod["metadata"]["name"]
        annotated = pod["metadata"].get("annotations", {}).get(COST, "0")
        cost = int(used.get(name, Decimal(0)) * 1000).bit_length()
        if annotated != str(cost):
            changed[name] = cost
    return changed


class Api:
    """The calls of this command to the Kubernetes API server.

    Args:
        url: the server's URL.
        account: directory with `token` and `ca.crt`.
        namespace: namespace of the pods.
    """

    def __init__(self, url: str, account: Path, namespace: str) -> None:
        self._url, self._namespace = url.rstrip("/"), namespace
        self._account = account
        self._context = ssl.create_default_context(cafile=str(account / "ca.crt"))

    def pods(self, selector: str) -> List[Dict[str, Any]]:
        """Return the pods with these labels; raises OSError."""
        return self._ask("GET", "/api/v1", f"pods?{self._query(selector)}")["items"]

    def used(self, selector: str) -> Dict[str, Decimal]:
        """Return how many cores each pod uses; raises OSError."""
        items = self._ask("GET", "/apis/metrics.k8s.io/v1beta1", f"pods?{self._query(selector)}")["items"]
        return {
            item["metadata"]["name"]: sum((cores(each["usage"]["cpu"]) for each in item["containers"]), Decimal(0))
            for item in items
        }

    def set_cost(self, pod: str, cost: int) -> None:
        """Annotate a pod; a pod that no longer exists is no error. Raises OSError."""
        try:
            self._ask("PATCH", "/api/v1", f"pods/{pod}", {"metadata": {"annotations": {COST: str(cost)}}})
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise

    def _query(self, selector: str) -> str:
        return urllib.parse.urlencode({"labelSelector": selector})

    def _ask(self, method: str, group: str, what: str, body: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
        token = (self._account / "token").read_text().strip()
        request = urllib.request.Request(  # noqa: S310 - the API server's
            f"{self._url}{group}/namespaces/{self._namespace}/{what}",
            json.dumps(body).encode() if body else None,
            {"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self._context) as answer:  # noqa: S310
            return json.load(answer)


def cores(quantity: str) -> Decimal:
    """Return a quantity of CPU in cores: `250m`, `12345678n`, `2`."""
    unit = quantity[-1] if quantity[-1] in UNITS else ""
    return Decimal(quantity.removesuffix(unit) if unit else quantity) * UNITS[unit]
