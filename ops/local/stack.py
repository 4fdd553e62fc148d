"""The whole system on one machine: its servers and processes, their settings, and the order of their start.

`make run` (ops/local/run.py) uses it on the default ports. The end-to-end tests use it on free ports, each in a
directory of its own.
"""

import hashlib
import hmac
import json
import os
import secrets
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import jwt

from kefu.errors import QueueUnavailable
from kefu.kafka import create_topics
from kefu.settings import KafkaSettings
from ops.local.servers import HOST, ROOT, KafkaServer, RedisServer, free_port, services_python
from ops.local.supervisor import Service, Supervisor

DEMO_IDENTITY_SECRET = "demo-identity-secret"
SECRETS = ("token_secret", "desk_secret", "receipt_secret", "shop_token")  # generated once for each directory
READY_S = 120.0  # longest wait until started processes are ready; beyond it the start fails
# Longer time limits for tests that check the answers. On a machine that is busy with all processes, a call to the shop
# must not fail only because it is slow.
PATIENCE = {"KEFU_SHOP_TIMEOUT_S": "6", "KEFU_ACTION_TIMEOUT_S": "8"}
# Port by the variable that sets it. Source: DESIGN.md, HTTP and Commands.
PORTS = {
    "KEFU_GATEWAY_PORT": 8080,
    "KEFU_WORKER_PORT": 5005,
    "KEFU_WORKER_HEALTH_PORT": 5006,
    "KEFU_ACTION_PORT": 5055,
    "KEFU_ACTION_HEALTH_PORT": 5057,
    "KEFU_SHOP_PORT": 8090,
    "KEFU_KAFKA_PORT": 9092,
    "KEFU_KAFKA_CONTROLLER_PORT": 9093,
    "KEFU_REDIS_PORT": 6379,
}
_PROBED = {
    "worker": "KEFU_WORKER_HEALTH_PORT",
    "actions": "KEFU_ACTION_HEALTH_PORT",
    "gateway": "KEFU_GATEWAY_PORT",
    "shop": "KEFU_SHOP_PORT",
}


def local_ports(environment: Mapping[str, str]) -> Dict[str, int]:
    """Return the ports of `make run`: those of the environment, otherwise the defaults of DESIGN.md."""
    return {name: int(environment.get(name) or default) for name, default in PORTS.items()}


def free_ports() -> Dict[str, int]:
    """Return a free port for each variable of PORTS, for a test."""
    return {name: free_port() for name in PORTS}


class Stack:
    """Kafka, Redis, shop, action server, worker and gateway under one supervisor.

    Args:
        directory: holds data, logs and secrets, which are kept between runs.
        ports: by variable, see PORTS.
        environment: the caller's environment. If it has KAFKA_BROKERS or REDIS_URL, no such server is started.
        tell: gets each line of progress, for the terminal.
        overrides: settings of all processes that replace the defaults, for tests.
        kafka: the Kafka server or cluster; None for one server.
        redis: the Redis server or group; None for one server.
        own_settings: further settings by the kind of process (`worker`, `gateway`).
    """

    def __init__(
        self,
        directory: Path,
        ports: Dict[str, int],
        environment: Optional[Mapping[str, str]] = None,
        tell: Callable[[str], None] = print,
        overrides: Optional[Mapping[str, str]] = None,
        kafka: Optional[Any] = None,
        redis: Optional[Any] = None,
        own_settings: Optional[Mapping[str, Mapping[str, str]]] = None,
    ) -> None:
        self.directory = Path(directory).resolve()
        self.ports = ports
        self._given = dict(environment or {})
        self._tell = tell
        self._supervisor = Supervisor(self.directory / "logs", tell)
        self.kafka = kafka or KafkaServer(
            self.directory / "kafka", ports["KEFU_KAFKA_PORT"], ports["KEFU_KAFKA_CONTROLLER_PORT"]
        )
        self.redis = redis or RedisServer(self.directory / "redis", ports["KEFU_REDIS_PORT"])
        self._own_settings = own_settings or {}
        self._added: Dict[str, int] = {}  # by name, the ports of the further workers and gateways
        self.settings = {**self._defaults(), **(overrides or {})}

    @property
    def shop_database(self) -> Path:
        """The file that holds the shop's orders."""
        return self.directory / "shop.db"

    @property
    def token_secret(self) -> str:
        """The secret with which the demo shop's backend signs customers' tokens."""
        return json.loads(self.settings["KEFU_TENANTS"])["demo"]["token_secret"]

    def url(self, name: str) -> str:
        """Return the URL of `gateway`, `shop`, `actions`, `worker`, or of an added worker or gateway."""
        if name in self._added:
            return f"http://{HOST}:{self._added[name]}"
        port = {"actions": "ACTION"}.get(name, name.upper())
        return f"http://{HOST}:{self.ports[f'KEFU_{port}_PORT']}"

    def start(self, wait_for_model: Callable[[], None] = lambda: None) -> None:
        """Start the servers, create the topics, start the processes; return when all are ready.

        Args:
            wait_for_model: blocks until the model is there. Only the worker needs it; all others start before.
        """
        own = [group for group, given in self._servers() if not given]
        self._step([self._server(server) for group in own for server in group.servers])
        for group in own:
            group.form()
        self._create_topics()
        shop, actions, worker, gateway = self._processes()
        others = [shop, actions, gateway]
        self._start(others)
        wait_for_model()
        self._step([worker], others)

    def start_actions(self) -> None:
        """Start only the shop and the action server, which is enough for `rasa shell`."""
        self._step(self._processes()[:2])

    def stop(self) -> None:
        """Stop all processes and servers, in the reverse order of their start. May be called at any time, and twice."""
        self._supervisor.stop()

    def kill(self, name: str, restart_after_s: float = 0.0) -> None:
        """End a process with SIGKILL. The supervisor starts it again after `restart_after_s`."""
        self._supervisor.kill(name, restart_after_s)

    def pid(self, name: str) -> int:
        """Return the process id of a service."""
        return self._supervisor.process(name).pid

    def wait_ready(self, name: str, deadline_s: float = READY_S) -> None:
        """Wait until a service is ready. Raises RuntimeError after the deadline."""
        self._supervisor.wait_ready([name], deadline_s)

    def add_worker(self) -> str:
        """Start a further worker on free ports; return its name."""
        name = self._next_name("worker")
        ports = {"KEFU_WORKER_PORT": free_port(), "KEFU_WORKER_HEALTH_PORT": free_port()}
        self._added[name] = ports["KEFU_WORKER_PORT"]
        self._supervisor.start(self._process(name, "worker", "kefu", "worker", ports, grace_s=30))
        return name

    def add_gateway(self) -> str:
        """Start a further gateway on a free port; return its name."""
        name = self._next_name("gateway")
        self._added[name] = free_port()
        ports = {"KEFU_GATEWAY_PORT": self._added[name]}
        self._supervisor.start(self._process(name, "services", "kefu", "gateway", ports, grace_s=15))
        return name

    def _next_name(self, kind: str) -> str:
        """Return `worker-2` for the second worker, and so on; a name is not given twice."""
        return f"{kind}-{sum(name.startswith(f'{kind}-') for name in self._added) + 2}"

    def ready(self, name: str) -> bool:
        """Return whether a process is ready now."""
        return self._supervisor.ready(name)

    def remove(self, name: str) -> None:
        """Stop a service with SIGTERM. The supervisor does not start it again."""
        self._supervisor.remove(name)

    def token(self, user: Optional[str] = None) -> str:
        """Open a session at the gateway and return its token: for a known customer, or for a guest without `user`."""
        body = {"tenant": "demo", "site_key": "demo"}
        if user is not None:
            digest = hmac.new(DEMO_IDENTITY_SECRET.encode(), user.encode(), hashlib.sha256).hexdigest()
            body.update(user_id=user, user_hash=digest)
        request = urllib.request.Request(  # noqa: S310 - the URL is this stack's own
            f"{self.url('gateway')}/v1/sessions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - likewise
            return json.load(answer)["token"]

    def desk_token(self, agent: str = "demo-agent", role: str = "agent", lifetime_s: int = 12 * 3600) -> str:
        """Return a token of the demo shop's desk, as the shop's backend would sign it; empty without a desk secret."""
        secret = json.loads(self.settings["KEFU_TENANTS"])["demo"].get("desk_secret")
        claims = {
            "sub": agent,
            "tenant": "demo",
            "role": role,
            "aud": "kefu-desk",
            "exp": int(time.time()) + lifetime_s,
        }
        return jwt.encode(claims, secret, algorithm="HS256") if secret else ""

    def _defaults(self) -> Dict[str, str]:
        kept = _secrets(self.directory / "secrets.json")
        tenant = {
            "site_key": "demo",
            "identity_secret": DEMO_IDENTITY_SECRET,
            "token_secret": kept["token_secret"],
            "desk_secret": kept["desk_secret"],
        }
        return {
            **{name: str(port) for name, port in self.ports.items()},
            "KAFKA_BROKERS": self._given.get("KAFKA_BROKERS") or self.kafka.brokers,
            "REDIS_URL": self._given.get("REDIS_URL") or self.redis.url,
            "ACTION_ENDPOINT_URL": f"{self.url('actions')}/webhook",
            "SHOP_URL": self.url("shop"),
            "KEFU_SHOP_DATABASE_URL": f"sqlite:///{self.shop_database}",
            "KEFU_SHOP_TOKEN": kept["shop_token"],
            "KEFU_RECEIPT_SECRET": kept["receipt_secret"],
            "KEFU_TENANTS": self._given.get("KEFU_TENANTS") or json.dumps({"demo": tenant}),
            "KEFU_DEMO_LOGIN": "1",
            **({"KEFU_TOPIC_REPLICATION": str(len(self.kafka.servers))} if len(self.kafka.servers) > 1 else {}),
            "KEFU_MODEL": str(ROOT / "models" / "kefu.tar.gz"),
            "PYTHONUNBUFFERED": "1",
        }

    def _servers(self) -> List[Any]:
        given = self._given
        return [(self.redis, given.get("REDIS_URL")), (self.kafka, given.get("KAFKA_BROKERS"))]

    def _server(self, server: Any) -> Service:
        return Service(
            server.name,
            server.command,
            lambda: "" if server.ready() else f"nothing answers on port {server.port}",
            directory=server.directory,
            grace_s=15,
        )

    def _processes(self) -> List[Service]:
        return [
            self._process("shop", "services", "ops.local.shop"),
            self._process("actions", "services", "kefu", "actions", grace_s=20),
            self._process("worker", "worker", "kefu", "worker", grace_s=30),
            self._process("gateway", "services", "kefu", "gateway", grace_s=15),
        ]

    def _process(
        self,
        name: str,
        python: str,
        module: str,
        argument: Optional[str] = None,
        ports: Optional[Dict[str, int]] = None,
        grace_s: float = 10,
    ) -> Service:
        own = self._own_settings.get(argument or "", {})
        environment = {**self.settings, **own, **{key: str(port) for key, port in (ports or {}).items()}}
        port = environment[_PROBED[argument or name]]
        command = [str(services_python(python)), "-m", module] + ([argument] if argument else [])
        return Service(name, lambda: command, lambda: _missing(port), environment, ROOT, grace_s)

    def _start(self, services: List[Service]) -> None:
        for service in services:
            self._supervisor.start(service)

    def _step(self, services: List[Service], started: Sequence[Service] = ()) -> None:
        """Start services and wait until they, and those that were started before, are ready."""
        if not services:
            return
        began = time.monotonic()
        self._start(services)
        names = [service.name for service in (*services, *started)]
        self._supervisor.wait_ready(names, READY_S)
        self._tell(f"ready: {', '.join(names)} ({time.monotonic() - began:.1f} s)")

    def _create_topics(self) -> None:
        started, end = time.monotonic(), time.monotonic() + READY_S
        while True:
            try:
                made = create_topics(KafkaSettings.from_env({**os.environ, **self.settings}))
                break
            except QueueUnavailable as error:
                if time.monotonic() > end:
                    raise RuntimeError(f"Kafka does not create the topics: {error}") from error
                time.sleep(0.5)
        new = sum(state == "created" for state in made.values())
        self._tell(f"topics ready: {new} made, {len(made) - new} there ({time.monotonic() - started:.1f} s)")


def _missing(port: str) -> str:
    """Return the answer of a process's `/readyz` if it is not ready; empty if it is."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/readyz", timeout=5):
            return ""
    except urllib.error.HTTPError as error:
        return error.read(500).decode("utf-8", "replace")
    except OSError:
        return f"nothing answers on port {port}"


def _secrets(path: Path) -> Dict[str, str]:
    """Return the secrets in a file, which only its owner may read. A missing secret is generated and added."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    missing = [name for name in SECRETS if name not in kept]
    if missing:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept.update({name: secrets.token_hex(32) for name in missing})
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(kept, file)
        fresh.replace(path)
    return kept
