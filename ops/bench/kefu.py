"""Kefu as it runs on one machine: Kafka, Redis, shop, action server, worker and gateway."""

import time
from pathlib import Path
from types import MappingProxyType
from typing import Dict, Mapping, Tuple

from ops.bench.shop import add_customers
from ops.local.servers import HOST
from ops.local.stack import Stack, free_ports

# The gateway's limits protect customers from each other, and would only limit the load here. The worker remembers no
# NLU results, because the customers of a bench say the same few sentences: their NLU would not be measured.
NO_LIMITS = {"KEFU_USER_RATE": "0", "KEFU_SESSION_RATE": "0", "KEFU_MAX_UNANSWERED": "0", "KEFU_NLU_REMEMBERED": "0"}


class KefuSystem:
    """The whole system on free ports, in a directory of its own."""

    name = "kefu"

    def __init__(self, directory: Path, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        overrides = {**NO_LIMITS, **settings}
        self.stack = Stack(directory, free_ports(), tell=lambda _: None, overrides=overrides)
        self._names: Tuple[str, ...] = ("worker", "gateway", "kafka", "redis", "actions", "shop")

    @property
    def model(self) -> Path:
        """The trained model."""
        return Path(self.stack.settings["KEFU_MODEL"])

    @property
    def jobs(self) -> Dict[str, str]:
        """The fields of a `Job` by which the load generator reaches the system."""
        return {
            "url": self.stack.url("gateway"),
            "brokers": self.stack.settings["KAFKA_BROKERS"],
            "token_secret": self.stack.token_secret,
        }

    @property
    def actions_metrics(self) -> str:
        """The URL of the action server's metrics."""
        return f"http://{HOST}:{self.stack.ports['KEFU_ACTION_HEALTH_PORT']}"

    @property
    def worker_metrics(self) -> str:
        """The URL of the worker's metrics; empty after `without_worker`."""
        return "" if "worker" not in self._names else f"http://{HOST}:{self.stack.ports['KEFU_WORKER_HEALTH_PORT']}"

    def start(self) -> None:
        """Start the system, wait until it is ready, and add the bench's customers to the shop."""
        self.stack.start()
        add_customers(self.stack.shop_database)

    def stop(self) -> None:
        """Stop all processes and servers."""
        self.stack.stop()

    def restart_worker(self) -> float:
        """Kill the worker; return how many seconds the new one took from its start until it was ready."""
        before = self.stack.pid("worker")
        began = time.monotonic()
        self.stack.kill("worker")
        while self.stack.pid("worker") == before:
            time.sleep(0.01)
        self.stack.wait_ready("worker")
        return time.monotonic() - began

    def without_worker(self) -> None:
        """Stop the worker for good. Messages that the gateway accepts from now on wait in Kafka."""
        self.stack.remove("worker")
        self._names = self._names[1:]

    def pids(self) -> Dict[str, int]:
        """Return the process ids by name."""
        return {name: self.stack.pid(name) for name in self._names}
