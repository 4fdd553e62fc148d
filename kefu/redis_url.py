"""REDIS_URL: a single server, a master watched by Sentinels, or a cluster.

Used by both sides; which client is made of it is `kefu.worker.storage.redis_client`'s and
`kefu.gateway.answer.redis_client`'s to say, for they have different versions of redis-py.
"""

from dataclasses import dataclass, field
from typing import Any, Dict, Tuple
from urllib.parse import parse_qsl, unquote, urlsplit

from kefu.errors import SettingsError

Address = Tuple[str, int]

KEY = "REDIS_URL"
SENTINEL_PORT = 26379
REDIS_PORT = 6379
SINGLE_SCHEMES = ("redis", "rediss", "unix")
# Passed on to the connection as they are. Source: redis-py, SSLConnection.
TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True)
class RedisUrl:
    """What a REDIS_URL says.

    Attributes:
        kind: `single` (redis-py reads the URL itself), `sentinel` or `cluster`.
        hosts: Sentinels, or any nodes of the cluster; empty for a single server.
        service: the master's name among the Sentinels.
        connection: redis-py's settings for a connection to a server.
        sentinel: the same for a connection to a Sentinel.
    """

    kind: str
    hosts: Tuple[Address, ...] = ()
    service: str = ""
    connection: Dict[str, Any] = field(default_factory=dict, repr=False)
    sentinel: Dict[str, Any] = field(default_factory=dict, repr=False)


def parse(url: str) -> RedisUrl:
    """Return what the URL says.

    `redis://[user:password@]host[:port][/db]` (`rediss` for TLS, `unix` for a socket),
    `redis+sentinel://[user:password@]host[:port],.../service[/db]`,
    `redis+cluster://[user:password@]host[:port],...`; the last two with TLS as `rediss+...`.

    Raises:
        SettingsError: naming what is wrong, and nothing of the URL, which may hold a password.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme in SINGLE_SCHEMES:
        return RedisUrl("single")
    if not separator or scheme not in ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"):
        forms = "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        raise SettingsError(KEY, f"must start with {forms}")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    user, _, hosts = authority.rpartition("@")
    connection = {**_credentials(user), **({"ssl": True} if scheme.startswith("rediss") else {})}
    options = _options(query, scheme)
    connection.update({name: value for name, value in options.items() if name in TLS_OPTIONS})
    if scheme.endswith("cluster"):
        if path.strip("/") not in ("", "0"):
            raise SettingsError(KEY, "names a database: a cluster has only 0")
        return RedisUrl("cluster", _hosts(hosts, REDIS_PORT), connection=connection)
    service, db = _service(path)
    sentinel = {name.replace("sentinel_", ""): value for name, value in options.items() if name in SENTINEL_OPTIONS}
    sentinel.update({name: value for name, value in connection.items() if name.startswith("ssl")})
    return RedisUrl("sentinel", _hosts(hosts, SENTINEL_PORT), service, {**connection, "db": db}, sentinel)


def _credentials(user: str) -> Dict[str, Any]:
    if not user:
        return {}
    name, colon, password = user.partition(":")
    found = {"username": unquote(name), "password": unquote(password)} if colon else {"password": unquote(name)}
    return {key: value for key, value in found.items() if value}


def _hosts(listed: str, default_port: int) -> Tuple[Address, ...]:
    found = []
    for host in listed.split(","):
        try:
            parts = urlsplit(f"//{host.strip()}")
            name, port = parts.hostname, parts.port
        except ValueError:
            name, port = None, None
        if not name:
            raise SettingsError(KEY, "must list host:port,host:port") from None
        found.append((name, port or default_port))
    return tuple(found)


def _service(path: str) -> Tuple[str, int]:
    service, _, db = path.rstrip("/").partition("/")
    if not service:
        raise SettingsError(KEY, "must end with the master's name among the Sentinels: /service")
    if db and not db.isdigit():
        raise SettingsError(KEY, "must end with /service or /service/db, the last a number")
    return unquote(service), int(db or 0)


def _options(query: str, scheme: str) -> Dict[str, Any]:
    known = TLS_OPTIONS + (SENTINEL_OPTIONS if scheme.endswith("sentinel") else ())
    options: Dict[str, Any] = dict(parse_qsl(query))
    for name in options:
        if name not in known:
            raise SettingsError(KEY, f"has an option that is not one of {', '.join(known)}")
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() in ("1", "true", "yes")
    return options
