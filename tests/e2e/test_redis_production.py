"""Redis with the production files: Kefu's users may do all that Kefu needs, also in a failover, and nothing else."""

import asyncio
import os
import shutil
import subprocess

import httpx
import pytest
import redis

from ops.local.servers import HOST, LOCAL
from ops.local.stack import Stack, free_ports
from tests.e2e.customers import TEXTS, check_promises, known_customer, wait_until_answered
from tests.e2e.production_redis import OnFiles, ProductionCluster, ProductionSentinels, with_tls
from tests.tls_files import Authority
from tests.waiting import until

REPLACED_S = 150  # after a stall of the machine, Sentinels wait 30 s (TILT mode) before they replace a master
# With these commands an intruder would learn the names of keys: those of other tenants and their customers.
ENUMERATING = [
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("PUBSUB", "CHANNELS"),
    ("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "kefu:"),
]


class Alone(OnFiles):
    """One server, without a replica."""

    replicas = 0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Alone(tmp_path_factory.mktemp("redis"), "redis", {})
    server.start()
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture(params=[ProductionSentinels, ProductionCluster])
def group(request, tmp_path):
    """Servers in each form, with TLS where this machine has a Redis with TLS."""
    binary = tls_server()
    group_class = with_tls(request.param, binary, tmp_path / "certificates") if binary else request.param
    return group_class(tmp_path / "redis")


def tls_server():
    """Return the path of a Redis with TLS (Debian: apt-get install redis-tools, then `make tools`), empty for none."""
    places = os.pathsep.join([str(LOCAL / "tools"), os.environ["PATH"]])
    for path in (found for name in ("redis-server", "valkey-server") if (found := shutil.which(name, path=places))):
        # A server names the first setting that it doesn't know: `tls-port` without TLS, otherwise `unknown`.
        ended = subprocess.run([path, "--tls-port", "0", "--unknown", "1"], capture_output=True, text=True, check=False)
        if "unknown" in ended.stdout + ended.stderr:
            return path
    return ""


@pytest.mark.asyncio
@pytest.mark.timeout(400)
async def test_production_redis_users_suffice_through_a_failover(group, tmp_path):
    """Worker and gateway log in as users of ops/redis; a master dies. No message is lost, no command refused."""
    urls = {role: {"REDIS_URL": group.address(role)} for role in ("worker", "gateway")}
    overrides = {"KEFU_USER_RATE": "0", "KEFU_REDIS_WAIT_REPLICAS": "1"}
    stack = Stack(tmp_path, free_ports(), {}, lambda _: None, overrides, redis=group, own_settings=urls)
    try:
        await asyncio.to_thread(stack.start)
        async with httpx.AsyncClient(base_url=stack.url("gateway"), timeout=30) as http:
            customers = [known_customer(http, f"acl-{n}", stack.token_secret) for n in range(6)]
            await asyncio.gather(*(customer.send(TEXTS[0]) for customer in customers))
            await wait_until_answered(customers)
            dead, *others = group.masters()
            stack.kill(dead.name, restart_after_s=600)

            def replaced():
                return any(member not in others for member in group.masters())

            for text in TEXTS[1:]:
                await asyncio.gather(*(customer.send(text) for customer in customers))
            await asyncio.to_thread(until, replaced, "a replica to become master", REPLACED_S)
            stack.kill(dead.name)
            await wait_until_answered(customers)
            await check_promises(customers)
        await asyncio.to_thread(until, group.whole, "the dead one to follow", REPLACED_S)
        assert dead not in group.masters()
        assert await asyncio.to_thread(refusals, group) == []
    finally:
        stack.stop()


def refusals(group):
    """Return the commands and logins that servers and Sentinels refused."""
    return [each for server in group.servers for each in server.client().execute_command("ACL", "LOG")]


@pytest.mark.parametrize(
    "user, command",
    [
        ("gateway", ("SET", "kefu:{a}:x", "1")),
        ("gateway", ("DEL", "kefu:{a}:x")),
        ("gateway", ("EVAL", "return redis.call('SET', KEYS[1], 1)", 1, "kefu:{a}:x")),
        ("gateway", ("GET", "other:x")),
        ("gateway", ("SSUBSCRIBE", "other")),
        ("gateway", ("ZRANGE", "kefu:due:{0}", 0, -1)),
        ("gateway", ("PSUBSCRIBE", "kefu:{*")),
        ("gateway", ("PUBSUB", "SHARDCHANNELS")),
        *((role, command) for role in ("gateway", "worker") for command in ENUMERATING),
        ("worker", ("SET", "other:x", "1")),
        ("worker", ("EVAL", "return redis.call('SET', 'other:x', 1)", 0)),
        ("worker", ("EVAL", "return redis.call('SCAN', '0')", 0)),
        ("worker", ("PSUBSCRIBE", "kefu:*")),
        ("worker", ("FLUSHALL",)),
        ("worker", ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")),
        ("worker", ("ACL", "SETUSER", "worker", "+@all")),
        ("worker", ("SHUTDOWN",)),
        ("worker", ("REPLICAOF", "127.0.0.1", "1")),
        ("replica", ("GET", "kefu:{a}:x")),
        ("sentinel", ("GET", "kefu:{a}:x")),
        ("sentinel", ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")),
        ("sentinel", ("SUBSCRIBE", "kefu:{a}:hint")),
    ],
    ids=lambda part: part if isinstance(part, str) else " ".join(map(str, part[:2])),
)
def test_redis_refuses_commands_beyond_a_users_role(server, user, command):
    """Such commands use keys of others, list keys, or administer the server."""
    with pytest.raises(redis.ResponseError, match=r"(?i)permission"):
        server.client(user).execute_command(*command)


def test_redis_refuses_a_missing_or_wrong_password(server):
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(HOST, server.port).ping()
    with pytest.raises(redis.AuthenticationError):
        server.client("worker", "wrong").ping()


@pytest.mark.parametrize("binary", sorted({"", tls_server()}), ids=lambda path: "tls" if path else "plain")
def test_writes_of_a_script_survive_a_killed_redis(binary, tmp_path):
    """The production file switches the append-only file on."""
    spoken = {"binary": binary, "certificates": Authority().write(tmp_path / "certificates", "localhost", [HOST])}
    server = type("Server", (Alone,), spoken)(tmp_path / "redis", "redis", {})
    server.start()
    server.wait_ready()
    try:
        worker = server.client("worker")
        worker.eval("redis.call('SET', KEYS[1], 1) redis.call('RPUSH', KEYS[2], 1)", 2, "kefu:{a}:x", "kefu:{a}:y")
        until(lambda: b"RPUSH" in written(server.directory), "the file to be written")
        server.kill()
        server.start()
        server.wait_ready()
        assert (worker.get("kefu:{a}:x"), worker.llen("kefu:{a}:y")) == (b"1", 1)
    finally:
        server.stop()


def written(directory):
    """Return the content of the append-only file."""
    return b"".join(path.read_bytes().upper() for path in directory.glob("appendonlydir/*.aof"))


def test_redis_runs_with_the_settings_of_the_production_file(server):
    settings = server.client("operator").config_get("*")
    assert settings["maxmemory-policy"] == "noeviction" and settings["appendonly"] == "yes"
    assert settings["min-replicas-max-lag"] == "10" and settings["save"] == ""


def test_redis_with_full_memory_refuses_writes_and_evicts_nothing(server):
    operator, worker = server.client("operator"), server.client("worker")
    worker.set("kefu:{full}:marker", "1")
    used = operator.info("memory")["used_memory"]
    operator.config_set("maxmemory", used // 2)
    try:
        with pytest.raises(redis.ResponseError, match="maxmemory"):
            worker.set("kefu:{full}:more", "x" * 1000)
        assert worker.get("kefu:{full}:marker") == b"1"
    finally:
        operator.config_set("maxmemory", 200_000_000)
