"""The servers and the gateway of a measurement, on free ports, and their CPU time and memory."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List

import jwt

from kefu.kafka import create_topics
from kefu.settings import KafkaSettings
from ops.local.servers import HOST, ROOT, KafkaServer, RedisServer, die_with_parent, free_port

SECRET = "a-token-secret-of-32-bytes-and-more"
READY_S = 30.0  # longest wait until the gateway is ready
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def user_name(number: int) -> str:
    """Return the id of a customer of the measurement."""
    return f"user-{number:06d}"


def token(number: int) -> str:
    """Return a customer's token, which is valid for an hour."""
    claims = {"sub": user_name(number), "tenant": "demo", "exp": int(time.time()) + 3600}
    return jwt.encode(claims, SECRET, algorithm="HS256")


@dataclass(frozen=True)
class Cost:
    """A process's use of CPU, in s since its start, and of memory, in bytes, at some moment."""

    cpu_s: float
    rss_bytes: int

    @classmethod
    def of(cls, pid: int) -> "Cost":
        """Return the present use of a process. Source: proc(5), stat and statm."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls((int(fields[11]) + int(fields[12])) / _TICKS, resident * _PAGE_BYTES)


class Machine:
    """Kafka, a Redis-protocol server and one gateway process; `running` starts and stops them."""

    def __init__(self, directory: Path, users: int) -> None:
        self.directory = directory
        self.kafka = KafkaServer(directory / "kafka", free_port())
        self.redis = RedisServer(directory / "redis", free_port())
        self.port = free_port()
        self.tokens = directory / "tokens"
        self.tokens.write_text("".join(token(number) + "\n" for number in range(users)))
        self.environment = {**os.environ, **self._settings(), "USERS": str(users), "TOKENS": str(self.tokens)}
        self._processes: Dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://{HOST}:{self.port}"

    def _settings(self) -> Dict[str, str]:
        keys = {"site_key": "demo", "identity_secret": "identity", "token_secret": SECRET}
        return {
            "KAFKA_BROKERS": self.kafka.brokers,
            "REDIS_URL": self.redis.url,
            "KEFU_TENANTS": json.dumps({"demo": keys}),
            "KEFU_RECEIPT_SECRET": "receipt",
            "KEFU_GATEWAY_PORT": str(self.port),
            "KEFU_USER_RATE": "0",
            "KEFU_MAX_UNANSWERED": "10000",
            "KEFU_MAX_STREAMS": "100000",
            "KEFU_MAX_USER_STREAMS": "1000",
            "PYTHONPATH": str(ROOT),
        }

    @contextlib.contextmanager
    def running(self) -> Iterator["Machine"]:
        """Return a context in which the servers and the gateway run."""
        try:
            for server in (self.kafka, self.redis):
                server.start()
            for server in (self.kafka, self.redis):
                server.wait_ready()
            create_topics(KafkaSettings(brokers=self.kafka.brokers))
            self.start("gateway", ["kefu", "gateway"])
            self._wait_ready()
            yield self
        finally:
            for name in list(self._processes):
                self.end(name)
            self.kafka.stop()
            self.redis.stop()

    def start(self, name: str, module: List[str]) -> None:
        """Start a module of this project as a process; its log is in the directory."""
        with open(self.directory / f"{name}.log", "ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", *module],
                env=self.environment,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )

    def end(self, name: str) -> None:
        """End a process that `start` started."""
        process = self._processes.pop(name)
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def costs(self) -> Dict[str, Cost]:
        """Return the present use of CPU and memory of each process."""
        servers = {server.name: server._process for server in (self.kafka, self.redis)}
        return {name: Cost.of(process.pid) for name, process in {**servers, **self._processes}.items() if process}

    def _wait_ready(self) -> None:
        end = time.monotonic() + READY_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=5):  # noqa: S310 - our own URL
                    return
            except (urllib.error.HTTPError, OSError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
