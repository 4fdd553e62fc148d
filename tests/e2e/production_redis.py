"""Redis on the files of `ops/redis`: one server, a master behind Sentinels, a cluster; each role has its user.

This project's Redis package has no TLS. Without `binary`, the files' TLS settings are left out, and no others.
"""

import hashlib
from pathlib import Path
from string import Template
from typing import Any, Dict, Optional

import redis

from ops.local.clusters import SERVICE, RedisCluster, RedisMember, RedisSentinel, RedisSentinels
from ops.local.servers import HOST, ROOT
from tests.tls_files import Authority

FILES = ROOT / "ops" / "redis"
ROLES = ("worker", "gateway", "replica", "sentinel", "operator", "kefu")
PASSWORDS = {role: f"{role}-password" for role in ROLES}
DIGESTS = {f"{role.upper()}_PASSWORD_SHA256": hashlib.sha256(PASSWORDS[role].encode()).hexdigest() for role in ROLES}
SECRETS = {f"{role.upper()}_PASSWORD": PASSWORDS[role] for role in ROLES}


class OnFiles(RedisMember):
    """A server that starts with the configuration of production's files.

    Attributes:
        replicas: number of replicas that the server requires for a write.
        binary: path of a Redis server with TLS; empty for this project's package.
        certificates: directory of `tls.crt`, `tls.key` and `ca.crt`, used with `binary`.
    """

    files = ("redis.conf",)
    users = "users.acl"
    replicas = 1
    binary = ""
    certificates = Path()

    def command(self):
        command = super().command()
        return [self.binary or command[0], *command[1:]]

    def text(self):
        users = self.directory / self.users
        users.write_text(Template((FILES / self.users).read_text()).substitute(DIGESTS))
        text = "".join((FILES / name).read_text() for name in self.files).replace("`${...}`", "")
        filled = Template(text).substitute(
            SECRETS, HOST=HOST, PORT=self.port, ACL_FILE=users, MEMORY="200mb", REPLICAS=self.replicas,
            CERTIFICATE=self.certificates / "tls.crt", KEY=self.certificates / "tls.key",
            AUTHORITY=self.certificates / "ca.crt", **self.names(),
        )  # fmt: skip
        lines = filled.splitlines()
        if not self.binary:
            lines = [line for line in lines if not line.startswith(("tls-", "port 0"))] + [f"port {self.port}"]
        own = {"dir": self.directory, **self._settings}
        return "\n".join([*lines, *(f"{key} {value}" for key, value in own.items())]) + "\n"

    def names(self) -> Dict[str, Any]:
        """Return the values of the files' other variables."""
        return {}

    def ready(self):
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def client(self, user="operator", password: Optional[str] = None):
        tls = {"ssl": True, "ssl_ca_certs": str(self.certificates / "ca.crt")} if self.binary else {}
        password = PASSWORDS[user] if password is None else password
        return redis.Redis(HOST, self.port, username=user, password=password, socket_timeout=5, **tls)


class SentinelOnFiles(OnFiles, RedisSentinel):
    """A Sentinel on production's files. It fails over after 1.5 s, sooner than in production, so that tests end."""

    files = ("sentinel.conf",)
    users = "sentinel-users.acl"

    def names(self):
        return {"MASTER_HOST": HOST, "MASTER_PORT": self._master_port}

    def text(self):
        return super().text() + f"sentinel down-after-milliseconds {SERVICE} 1500\n"


class NodeOnFiles(OnFiles):
    """A node of a cluster on production's files."""

    files = ("redis.conf", "cluster.conf")


class ProductionSentinels(RedisSentinels):
    """A master with a replica, three Sentinels."""

    member_class, sentinel_class = OnFiles, SentinelOnFiles

    def __init__(self, directory):
        super().__init__(directory, replicas=1)

    def address(self, role):
        """Return REDIS_URL of a role."""
        known = self.url.partition("://")[2]
        asked = f"sentinel_username=kefu&sentinel_password={PASSWORDS['kefu']}"
        return f"{scheme(self)}+sentinel://{role}:{PASSWORDS[role]}@{known}?{asked}{authority(self)}"


class ProductionCluster(RedisCluster):
    """Three masters with a replica each."""

    member_class = NodeOnFiles

    def address(self, role):
        """Return REDIS_URL of a role."""
        known = self.url.partition("://")[2]
        return f"{scheme(self)}+cluster://{role}:{PASSWORDS[role]}@{known}?{authority(self)[1:]}".rstrip("?")


def scheme(group):
    """Return `redis`, or `rediss` for servers that speak TLS."""
    return "rediss" if group.servers[0].binary else "redis"


def authority(group):
    """Return the URL option that names the trusted authority, empty without TLS."""
    first = group.servers[0]
    return f"&ssl_ca_certs={first.certificates / 'ca.crt'}" if first.binary else ""


def with_tls(group_class, binary, directory):
    """Return a class of the same group whose servers use TLS, with certificates made in a directory."""
    certificates = Authority().write(directory, "localhost", [HOST])
    spoken = {"binary": binary, "certificates": certificates}
    classes = {"member_class": type("Member", (group_class.member_class,), spoken)}
    if hasattr(group_class, "sentinel_class"):
        classes["sentinel_class"] = type("Sentinel", (group_class.sentinel_class,), spoken)
    return type(group_class.__name__, (group_class,), classes)
