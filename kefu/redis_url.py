"""Parses REDIS_URL, for every process: one server, a master watched by Sentinels, or a cluster.

In: the URL. Out: the addresses and options of connections. `kefu.worker.storage.redis_client` and
`kefu.gateway.answer.redis_client` open the connections, each with its own version of redis-py.

    redis://[user:password@][host][:port][/db]                     one server
    unix://[user:password@]/path/to/socket                         one server on this machine
    redis+sentinel://[user:password@]host[:port],.../service[/db]  the master that the Sentinels name
    redis+cluster://[user:password@]host[:port],...                a cluster, some of its nodes

`rediss` in place of `redis` means TLS. Defaults: host localhost, port 6379, a Sentinel's port 26379, db 0.

A user name or password may hold every character except `/`, `?` and `%`, which are written %2F, %3F and %25. An `@` in
the path or the options is written %40. A password without a user name is written `:password@`.

Options follow a `?`. They have redis-py's names:
- every form: `client_name`, `health_check_interval` (seconds);
- every form except `unix`: `socket_keepalive` (true or false);
- with TLS: `ssl_ca_certs`, `ssl_ca_data`, `ssl_certfile`, `ssl_keyfile`, `ssl_cert_reqs` (none, optional or required),
  `ssl_check_hostname` (true or false);
- one server: `db` (outranks the path's), `username`, `password` (outranked by those before the `@`);
- Sentinels: `sentinel_username`, `sentinel_password`.
Every other option of redis-py is refused: the settings (`KEFU_REDIS_TIMEOUT_S`) or the code decide it, or only one of
the two versions of redis-py knows it.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Tuple
from urllib.parse import parse_qsl, unquote

from kefu.errors import SettingsError

Address = Tuple[str, int]

KEY = "REDIS_URL"
SENTINEL_PORT = 26379
REDIS_PORT = 6379
MAX_PORT = 65535

# Scheme, without the `s` of TLS, to form.
_FORMS = {"redis": "single", "unix": "unix", "redis+sentinel": "sentinel", "redis+cluster": "cluster"}
_TLS = ("ssl_ca_certs", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_COMMON = ("client_name", "health_check_interval")
_OPTIONS = {
    "single": ("db", "username", "password", *_COMMON, "socket_keepalive", *_TLS),
    "unix": ("db", "username", "password", *_COMMON),
    "sentinel": ("sentinel_username", "sentinel_password", *_COMMON, "socket_keepalive", *_TLS),
    "cluster": (*_COMMON, "socket_keepalive", *_TLS),
}
# redis-py's other options, which an error message may name. Any other word may be part of a password and is not shown.
_REFUSED = {
    *("socket_timeout", "socket_connect_timeout", "timeout", "max_connections", "retry", "retry_on_timeout"),
    *("retry_on_error", "encoding", "encoding_errors", "decode_responses", "protocol", "legacy_responses"),
    *("socket_read_size", "socket_type", "socket_keepalive_options", "lib_name", "lib_version", "parser_class"),
    *("ssl_ca_path", "ssl_min_version", "ssl_ciphers", "ssl_password"),
    *("ssl_include_verify_flags", "ssl_exclude_verify_flags"),
}
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s\[\]:/?#@,]*)(?::([0-9]{1,5})?)?")


@dataclass(frozen=True)
class RedisUrl:
    """A parsed REDIS_URL.

    Attributes:
        kind: `single`, `sentinel` or `cluster`.
        hosts: the server, the Sentinels, or any nodes of the cluster; empty for a socket.
        path: the socket of a single server; empty for a server on the network.
        service: the master's name among the Sentinels.
        connection: redis-py's options for a connection to a server, `ssl` for TLS.
        sentinel: redis-py's options for a connection to a Sentinel.
    """

    kind: str
    hosts: Tuple[Address, ...] = ()
    path: str = field(default="", repr=False)
    service: str = ""
    connection: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sentinel: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def place(self) -> Dict[str, Any]:
        """redis-py's options for the address of a single server: `path`, or `host` and `port`."""
        return {"path": self.path} if self.path else {"host": self.hosts[0][0], "port": self.hosts[0][1]}


def parse(url: str) -> RedisUrl:
    """Parse a URL of one of the module's forms.

    Raises:
        SettingsError: names the fault and repeats nothing of the URL, which may hold a password.
    """
    scheme, separator, rest = url.partition("://")
    tls = scheme.startswith("rediss")
    form = _FORMS.get(scheme.replace("rediss", "redis", 1), "") if separator else ""
    if not form:
        raise _wrong("must start with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    user, _, hosts = authority.rpartition("@")
    if "@" in path or ("@" in query and "@" not in authority):
        raise _unencoded()
    options = _options(query, form, tls)
    connection = {**options, **_credentials(user, form), **({"ssl": True} if tls else {})}
    if form == "unix":
        return _socket(hosts, path, connection)
    if form == "single":
        db = _database(path.rstrip("/"), "must end with /db, a number")
        return RedisUrl("single", _hosts(hosts, form), connection={"db": db, **connection})
    if form == "cluster":
        if path.strip("/") not in ("", "0"):
            raise _wrong("names a database: a cluster has only 0")
        return RedisUrl("cluster", _hosts(hosts, form), connection=connection)
    return _behind_sentinels(hosts, path, connection)


def _wrong(problem: str) -> SettingsError:
    return SettingsError(KEY, problem)


def _unencoded() -> SettingsError:
    return _wrong(
        "has an @ after a / or ?: percent-encode these in a user name, password or path, / as %2F, ? as %3F, @ as %40"
    )


def _credentials(user: str, form: str) -> Dict[str, str]:
    if not user:
        return {}
    name, colon, password = user.partition(":")
    if not colon:
        if form in ("single", "unix"):  # redis-py would take it for a user name, and the login would fail
            raise _wrong("must have user:password or :password before the @")
        name, password = "", name
    pairs = {"username": unquote(name), "password": unquote(password)}
    return {key: value for key, value in pairs.items() if value}


def _socket(hosts: str, path: str, connection: Dict[str, Any]) -> RedisUrl:
    if hosts or not path:
        raise _wrong("must name a socket by its whole path: unix:///path or unix://user:password@/path")
    return RedisUrl("single", path=unquote(f"/{path}"), connection={"db": 0, **connection})


def _behind_sentinels(hosts: str, path: str, connection: Dict[str, Any]) -> RedisUrl:
    service, _, db = path.rstrip("/").partition("/")
    if not service:
        raise _wrong("must end with the master's name among the Sentinels: /service")
    number = _database(db, "must end with /service or /service/db, the last a number")
    sentinel = {name: connection.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    known = {name: value for name, value in sentinel.items() if value}
    known.update({name: value for name, value in connection.items() if name.startswith("ssl")})
    sentinels = _hosts(hosts, "sentinel")
    return RedisUrl(
        "sentinel", sentinels, service=unquote(service), connection={**connection, "db": number}, sentinel=known
    )


def _hosts(listed: str, form: str) -> Tuple[Address, ...]:
    """Return the servers' addresses; only the form `single` may omit the host."""
    single = form == "single"
    addresses = []
    for each in [listed] if single else listed.split(","):
        match = _HOST.fullmatch(each.strip())
        host = unquote(match[1].strip("[]")).lower() if match else ""
        port = int(match[2] or (SENTINEL_PORT if form == "sentinel" else REDIS_PORT)) if match else 0
        if not 1 <= port <= MAX_PORT or not (host or single):
            shape = "name one server as host:port" if single else "list host:port,host:port"
            raise _wrong(f"must {shape}, with ports from 1 to {MAX_PORT}")
        addresses.append((host or "localhost", port))
    return tuple(addresses)


def _database(number: str, problem: str) -> int:
    if not number:
        return 0
    return _whole(number, problem)


def _whole(number: str, problem: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", number):
        raise _wrong(problem)
    return int(number)


def _options(query: str, form: str, tls: bool) -> Dict[str, Any]:
    """Return the options in a URL's query, converted to redis-py's types. Raises SettingsError."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:  # not chained, because its text repeats the URL
        raise _unencoded() if "@" in query else _wrong("has a malformed option: ?name=value&name=value") from None
    options: Dict[str, Any] = {}
    for name, value in pairs:
        if name not in _OPTIONS[form]:
            raise _unencoded() if "@" in query and name not in _REFUSED | {*_TLS} else _unknown(name, form)
        if name in _TLS and not tls:
            raise _wrong(f"has the option {name} without TLS: start with rediss")
        if name in options:
            raise _wrong(f"has the option {name} twice")
        options[name] = _typed(name, value)
    return options


def _unknown(name: str, form: str) -> SettingsError:
    shown = f" {name}" if name in _REFUSED or any(name in known for known in _OPTIONS.values()) else ""
    return _wrong(f"has an option{shown} that is not one of {', '.join(_OPTIONS[form])}")


def _typed(name: str, value: str) -> Any:
    if name in ("db", "health_check_interval"):
        return _whole(value, f"has the option {name}, which must be a whole number")
    if name in ("ssl_check_hostname", "socket_keepalive"):
        if value.lower() not in _FLAGS:
            raise _wrong(f"has the option {name}, which must be true or false")
        return _FLAGS[value.lower()]
    if name == "ssl_cert_reqs" and value not in ("none", "optional", "required"):
        raise _wrong(f"has the option {name}, which must be none, optional or required")
    if not value:
        raise _wrong(f"has the option {name} without a value")
    return value
