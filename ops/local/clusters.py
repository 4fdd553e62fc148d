"""Groups of servers on one machine: a Kafka cluster of three brokers, Redis behind Sentinels, a Redis Cluster.

In: a directory and free ports. Out: started servers, and the value of KAFKA_BROKERS or REDIS_URL. Their timeouts are
short, so that a failover takes seconds.
"""

import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import redis

from ops.local.servers import HOST, KafkaServer, RedisServer, Server, free_port, redis_binary

SERVICE = "kefu"  # the master's name among the Sentinels
QUORUM = 2  # how many Sentinels must find the master down before a failover
DOWN_AFTER_MS = 1500  # a Sentinel finds a server down after this time without an answer
FAILOVER_TIMEOUT_MS = 6000  # after this time the Sentinels try a failed failover again
NODE_TIMEOUT_MS = 2000  # the nodes of a Redis Cluster find a node down after this time without an answer
SLOTS = 16384  # of every Redis Cluster
FORMED_S = 180.0  # longest wait until the started servers form a group; beyond it the start fails
FORMING_CALL_S = 30.0  # longest wait for the answer to a command that forms a cluster: it must not be sent twice


class Group:
    """Several servers that work together. `servers` has them in the order in which they are started."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = list(servers)

    def start(self) -> None:
        """Start all servers; return when all of them answer and know each other."""
        for server in self.servers:
            server.start()
        for server in self.servers:
            server.wait_ready()
        self.form()

    def form(self) -> None:
        """Join the started servers into a group. Nothing happens if they have found each other before."""

    def stop(self) -> None:
        """Stop all servers, in the reverse order of their start."""
        for server in reversed(self.servers):
            server.stop()


class KafkaCluster(Group):
    """A Kafka cluster of KRaft nodes, each broker and controller. No topic is lost if one node dies."""

    def __init__(self, directory: Path, size: int = 3) -> None:
        controllers = {node: free_port() for node in range(1, size + 1)}
        voters = {node: f"{HOST}:{port}" for node, port in controllers.items()}
        nodes = []
        for node, controller in controllers.items():
            server = KafkaServer(directory / str(node), free_port(), controller, node, voters, str(directory))
            server.name = f"kafka-{node}"
            nodes.append(server)
        super().__init__(nodes)

    @property
    def brokers(self) -> str:
        """The value of KAFKA_BROKERS for this cluster."""
        return ",".join(f"{HOST}:{server.port}" for server in self.servers)


class RedisMember(RedisServer):
    """A Redis server of a group. A failover changes its role, which the server then writes to its configuration file.

    Args:
        directory: holds the server's configuration and data.
        name: the process's name in logs and for kills.
        settings: settings of this server beside those of every server.
        mode: further arguments of the server's command.
    """

    def __init__(self, directory: Path, name: str, settings: Dict[str, Any], mode: Sequence[str] = ()) -> None:
        super().__init__(directory, free_port())
        self.name = name
        self._settings = settings
        self._mode = list(mode)

    def command(self) -> List[str]:
        """Return the server's command. Writes the configuration only the first time; later the server rewrites it."""
        path = self.directory / "redis.conf"
        if not path.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text())
        return [redis_binary(), str(path), *self._mode]

    def text(self) -> str:
        """Return the text of the configuration file for the server's first start."""
        return "".join(f"{key} {value}\n" for key, value in self.configuration().items())

    def configuration(self) -> Dict[str, Any]:
        """Return the settings for the server's first start."""
        return {
            **self.defaults(),
            "save": '""',
            "repl-diskless-sync-delay": 0,
            "min-replicas-to-write": 1,
            **self._settings,
        }

    def client(self) -> redis.Redis:
        """Return a client of this server, whatever its role."""
        return redis.Redis(host=HOST, port=self.port, socket_timeout=2)


class RedisSentinel(RedisMember):
    """One Sentinel, which watches the master at `port` of loopback."""

    def __init__(self, directory: Path, name: str, master_port: int) -> None:
        super().__init__(directory, name, {}, ["--sentinel"])
        self._master_port = master_port

    def configuration(self) -> Dict[str, Any]:
        """Return the settings for the first start. Later the Sentinel adds the servers that it finds to the file."""
        return {
            "port": self.port,
            "bind": HOST,
            "dir": self.directory,
            f"sentinel monitor {SERVICE} {HOST} {self._master_port}": QUORUM,
            f"sentinel down-after-milliseconds {SERVICE}": DOWN_AFTER_MS,
            f"sentinel failover-timeout {SERVICE}": FAILOVER_TIMEOUT_MS,
        }


class RedisSentinels(Group):
    """A master, its replicas and three Sentinels.

    Args:
        directory: holds the folders of all servers.
        replicas: the number of replicas.
        door: gets a server's port, and returns the port of a proxy through which all others reach the server.
    """

    member_class = RedisMember
    sentinel_class = RedisSentinel

    def __init__(self, directory: Path, replicas: int = 2, door: Optional[Callable[[int], int]] = None) -> None:
        door = door or (lambda port: port)
        self.members: List[RedisMember] = []
        for number in range(1, replicas + 2):
            member = self.member_class(directory / f"redis-{number}", f"redis-{number}", {})
            member._settings.update({"replica-announce-ip": HOST, "replica-announce-port": door(member.port)})
            if number == 1:
                self._first = member._settings["replica-announce-port"]
            else:
                member._settings["replicaof"] = f"{HOST} {self._first}"
            self.members.append(member)
        names = [f"sentinel-{number}" for number in (1, 2, 3)]
        self.sentinels = [self.sentinel_class(directory / name, name, self._first) for name in names]
        super().__init__([*self.members, *self.sentinels])

    @property
    def url(self) -> str:
        """The value of REDIS_URL for these servers."""
        return f"redis+sentinel://{','.join(f'{HOST}:{s.port}' for s in self.sentinels)}/{SERVICE}/0"

    def form(self) -> None:
        """Wait until every replica follows, and the Sentinels know the replicas and each other."""
        until(self.whole, "the Sentinels to see the master with its replicas")

    def whole(self) -> bool:
        """Return whether all replicas follow the master that all Sentinels name."""
        try:
            # redis-py's types say that the answer is a list; it is a dictionary of states by the master's name.
            states = [s.client().sentinel_masters()[SERVICE] for s in self.sentinels]  # type: ignore[call-overload]
        except (redis.RedisError, KeyError):
            return False
        agreed = len({(state["ip"], state["port"]) for state in states}) == 1
        known = all(
            state["num-other-sentinels"] == len(self.sentinels) - 1 and state["num-slaves"] == len(self.members) - 1
            for state in states
        )
        return agreed and known and followed(self.members, 1)

    def masters(self) -> List[RedisMember]:
        """Return the servers that report the role of a master. During a failover there may be two."""
        return [member for member in self.members if role(member) == "master"]


class RedisCluster(Group):
    """A Redis Cluster: masters with one replica each.

    Args:
        directory: holds the folders of all servers.
        masters: the number of masters.
        door: gets a server's port, and returns the port of a proxy through which clients reach the server.
    """

    member_class = RedisMember

    def __init__(self, directory: Path, masters: int = 3, door: Optional[Callable[[int], int]] = None) -> None:
        self._door = door or (lambda port: port)
        self._masters = masters
        self.members = [self._member(directory, f"redis-{number}") for number in range(1, 2 * masters + 1)]
        super().__init__(self.members)

    def _member(self, directory: Path, name: str) -> RedisMember:
        settings = {
            "cluster-enabled": "yes",
            "cluster-config-file": "nodes.conf",
            "cluster-node-timeout": NODE_TIMEOUT_MS,
            "cluster-port": free_port(),
        }
        member = self.member_class(directory / name, name, settings)
        if self._door(member.port) != member.port:
            settings["cluster-announce-client-port"] = self._door(member.port)
        return member

    @property
    def url(self) -> str:
        """The value of REDIS_URL for this cluster, which names three of its nodes."""
        return f"redis+cluster://{','.join(f'{HOST}:{self._door(m.port)}' for m in self.members[:3])}"

    def form(self) -> None:
        """Make the nodes know each other, give the masters their slots, and give each master a replica."""
        if cluster_info(patient(self.members[0]))["cluster_known_nodes"] != "1":
            until(self.whole, "the cluster to be whole")
            return
        for number, member in enumerate(self.members[: self._masters]):
            ends = [SLOTS * n // self._masters for n in (number, number + 1)]
            patient(member).execute_command("CLUSTER ADDSLOTSRANGE", ends[0], ends[1] - 1)
        until(self._acquainted, "the nodes to know each other")
        for master, replica in zip(self.members[: self._masters], self.members[self._masters :], strict=True):
            patient(replica).execute_command("CLUSTER REPLICATE", patient(master).execute_command("CLUSTER MYID"))
        until(self.whole, "the cluster to be whole")

    def _acquainted(self) -> bool:
        """Return whether all nodes know each other. If not, the first node meets the nodes that are still unknown.

        This is called until it returns True, because a handshake that isn't answered within NODE_TIMEOUT_MS is dropped
        on either side.
        """
        try:
            known = [known_nodes(member) for member in self.members]
            for member, its in zip(self.members[1:], known[1:], strict=True):
                if bus(member) not in known[0] or bus(self.members[0]) not in its:
                    patient(self.members[0]).execute_command("CLUSTER MEET", HOST, member.port, bus(member))
        except redis.RedisError:
            return False
        return all(len(its) == len(self.members) and "handshake" not in "".join(its.values()) for its in known)

    def whole(self) -> bool:
        """Return whether every slot is served, and every master has a connected replica."""
        try:
            states = [cluster_info(member.client()) for member in self.members]
        except redis.RedisError:
            return False
        return all(state["cluster_state"] == "ok" for state in states) and followed(self.members, self._masters)

    def masters(self) -> List[RedisMember]:
        """Return the servers that report the role of a master."""
        return [member for member in self.members if role(member) == "master"]


def role(member: RedisMember) -> str:
    """Return a server's role, `master` or `slave`; an empty string if the server doesn't answer."""
    try:
        return member.client().info("replication")["role"]
    except redis.RedisError:
        return ""


def followed(members: Sequence[RedisMember], masters: int) -> bool:
    """Return whether there are `masters` masters, and every other server has a connection to its master."""
    try:
        states = [member.client().info("replication") for member in members]
    except redis.RedisError:
        return False
    links = [state.get("master_link_status") for state in states if state["role"] == "slave"]
    return links == ["up"] * (len(members) - masters)


def cluster_info(client: redis.Redis) -> Dict[str, str]:
    """Return the answer to CLUSTER INFO; raises RedisError."""
    # Sent as two words, because redis-py's versions parse the answer to "CLUSTER INFO" in different ways.
    answer = client.execute_command("CLUSTER", "INFO").decode()
    return dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)


def known_nodes(member: RedisMember) -> Dict[int, str]:
    """Return the flags of all nodes that a node knows, by the ports of their cluster buses; raises RedisError."""
    lines = member.client().execute_command("CLUSTER", "NODES").decode().splitlines()
    nodes = [line.split() for line in lines]  # id, host:port@bus[,name], flags
    return {int(address.partition("@")[2].partition(",")[0]): flags for _, address, flags, *_ in nodes}


def bus(member: RedisMember) -> int:
    """Return the port of a node's cluster bus, at which the other nodes reach it."""
    return member._settings["cluster-port"]


def patient(member: RedisMember) -> redis.Redis:
    """Return a client that waits for FORMING_CALL_S, for a command that must not be sent twice."""
    client = member.client()
    client.connection_pool.connection_kwargs["socket_timeout"] = FORMING_CALL_S
    return client


def until(condition: Callable[[], bool], what: str, deadline_s: float = FORMED_S) -> None:
    """Wait until a condition is true. Raises RuntimeError, which names `what`, after the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {deadline_s:.0f} s in vain for {what}")
        time.sleep(0.1)
