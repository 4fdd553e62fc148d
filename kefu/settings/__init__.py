"""The only reader of the environment.

Each process builds the frozen sections that it needs once, at its start, and passes them on.
A secret may also come from a file named by `<KEY>_FILE` (mounted by Kubernetes or Vault).
"""

import getpass
import json
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from kefu import redis_url
from kefu.errors import SettingsError

Environment = Mapping[str, str]

TOKEN_LIFETIME_S = 24 * 3600
MARKER_LIFETIME_S = 7 * 24 * 3600  # longer than user.query is kept (3 days), see DESIGN promise 2
CONVERSATION_LIFETIME_S = 7 * 24 * 3600
MAX_TEXT_CHARS = 4000
MAX_BODY_BYTES = 64 * 1024


def text(env: Environment, key: str, default: Optional[str] = None) -> str:
    """Return a variable's value; an absent or empty one without default raises SettingsError."""
    value = env.get(key, "").strip()
    if value:
        return value
    if default is None:
        raise SettingsError(key, "is not set")
    return default


def secret(env: Environment, key: str, default: Optional[str] = None) -> str:
    """Return a secret from `key` or from the file that `<key>_FILE` names."""
    path = env.get(f"{key}_FILE", "").strip()
    if not path:
        return text(env, key, default)
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{key}_FILE", f"names a file that can't be read ({error.__class__.__name__})") from error
    if not value:
        raise SettingsError(f"{key}_FILE", "names an empty file")
    return value


def integer(env: Environment, key: str, default: int, low: int, high: int) -> int:
    """Return a whole number between `low` and `high`, both included."""
    value = number(env, key, default, low, high)
    if value != int(value):
        raise SettingsError(key, "must be a whole number")
    return int(value)


def number(env: Environment, key: str, default: float, low: float, high: float) -> float:
    """Return a number between `low` and `high`, both included."""
    raw = text(env, key, str(default))
    try:
        value = float(raw)
    except ValueError as error:
        raise SettingsError(key, f"must be a number from {low} to {high}") from error
    if not low <= value <= high:
        raise SettingsError(key, f"must be a number from {low} to {high}")
    return value


def port(env: Environment, key: str, default: int) -> int:
    """Return a TCP port."""
    return integer(env, key, default, 1, 65535)


def operator(env: Environment = os.environ) -> str:
    """Return who gives commands: KEFU_OPERATOR, or the login name at this machine."""
    name = text(env, "KEFU_OPERATOR", "")
    if not name:
        try:
            name = f"{getpass.getuser()}@{socket.gethostname()}"
        except (KeyError, OSError) as error:  # in a container the user may have a number only
            raise SettingsError("KEFU_OPERATOR", "is needed where the user has no login name") from error
    if len(name) > 128:
        raise SettingsError("KEFU_OPERATOR", "is longer than 128 characters")
    return name


@dataclass(frozen=True)
class KafkaSettings:
    """Where Kafka is and how to speak to it. Source: DESIGN.md, Settings.

    Attributes:
        linger_ms: how long a record waits for others of its partition, to be one request with them.
    """

    brokers: str
    security_protocol: str = "PLAINTEXT"
    sasl_username: str = ""
    sasl_password: str = field(default="", repr=False)
    ca_file: str = ""
    topic_prefix: str = ""
    partitions: int = 8
    replication: int = 1
    group: str = "kefu-worker"
    linger_ms: float = 10.0

    @classmethod
    def from_env(cls, env: Environment = os.environ) -> "KafkaSettings":
        """Read the section; raises SettingsError naming the key at fault."""
        protocol = text(env, "KAFKA_SECURITY_PROTOCOL", "PLAINTEXT").upper()
        if protocol not in ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"):
            raise SettingsError("KAFKA_SECURITY_PROTOCOL", "must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL")
        sasl = protocol.startswith("SASL")
        return cls(
            brokers=text(env, "KAFKA_BROKERS"),
            security_protocol=protocol,
            sasl_username=text(env, "KAFKA_SASL_USERNAME") if sasl else "",
            sasl_password=secret(env, "KAFKA_SASL_PASSWORD") if sasl else "",
            ca_file=text(env, "KAFKA_CA_FILE", "") if protocol.endswith("SSL") else "",
            topic_prefix=text(env, "KEFU_TOPIC_PREFIX", ""),
            partitions=integer(env, "KEFU_TOPIC_PARTITIONS", 8, 1, 4096),
            replication=integer(env, "KEFU_TOPIC_REPLICATION", 1, 1, 9),
            group=text(env, "KEFU_CONSUMER_GROUP", "kefu-worker"),
            linger_ms=number(env, "KEFU_KAFKA_LINGER_MS", 10.0, 0, 1000),
        )

    @property
    def candidate_group(self) -> str:
        """The consumer group of a release's candidate, beside that of the active workers."""
        return f"{self.group}.candidate"

    def client_config(self) -> Dict[str, Any]:
        """Return librdkafka's settings for the connection. Source: librdkafka CONFIGURATION.md."""
        config: Dict[str, Any] = {"bootstrap.servers": self.brokers, "security.protocol": self.security_protocol}
        if self.sasl_username:
            config.update(
                {
                    "sasl.mechanism": "SCRAM-SHA-512",
                    "sasl.username": self.sasl_username,
                    "sasl.password": self.sasl_password,
                }
            )
        if self.ca_file:
            config["ssl.ca.location"] = self.ca_file
        return config


def kafka_principals(env: Environment = os.environ) -> Dict[str, str]:
    """Return the user name on Kafka by role, of the roles that `KEFU_ACL_<ROLE>` names; see `kefu.tools.acls`."""
    roles = ("gateway", "worker", "operator", "backup", "scaler")
    named = {role: text(env, f"KEFU_ACL_{role.upper()}", "") for role in roles}
    return {role: user for role, user in named.items() if user}


@dataclass(frozen=True)
class RedisSettings:
    """Where the conversations are kept. The URL (forms: `kefu.redis_url`) may hold a password: it is never shown."""

    url: str = field(repr=False)
    key_prefix: str = "kefu"
    wait_replicas: int = 0
    timeout_s: float = 2.0

    @classmethod
    def from_env(cls, env: Environment = os.environ) -> "RedisSettings":
        """Read the section; raises SettingsError naming the key at fault."""
        url = secret(env, redis_url.KEY)
        redis_url.parse(url)  # what is wrong with it stops the start, not the first call
        return cls(
            url=url,
            key_prefix=text(env, "KEFU_KEY_PREFIX", "kefu"),
            wait_replicas=integer(env, "KEFU_REDIS_WAIT_REPLICAS", 0, 0, 5),
            timeout_s=number(env, "KEFU_REDIS_TIMEOUT_S", 2.0, 0.05, 60),
        )


@dataclass(frozen=True)
class Tenant:
    """One shop that uses the platform.

    Attributes:
        site_key: public key that the chat page sends to open a session.
        identity_secret: key of the HMAC by which the shop vouches for a customer's id.
        token_secret: key of the session tokens; the shop may mint its own with it (HS256).
        desk_secret: key of the tokens of the desk, which the shop's backend mints; empty for no desk.
    """

    name: str
    site_key: str
    identity_secret: str = field(repr=False)
    token_secret: str = field(repr=False)
    desk_secret: str = field(default="", repr=False)


def tenants(env: Environment = os.environ) -> Dict[str, Tenant]:
    """Read `KEFU_TENANTS`, a JSON object of tenant name to its keys; raises SettingsError."""
    raw = secret(env, "KEFU_TENANTS")
    try:
        listed = json.loads(raw)
        found = {name: Tenant(name=name, **keys) for name, keys in listed.items()}
    except (ValueError, TypeError, AttributeError) as error:
        # `from None`: the JSON error would show the document, which is full of secrets.
        problem = "must be a JSON object: tenant name to site_key, identity_secret, token_secret, maybe desk_secret"
        raise SettingsError("KEFU_TENANTS", f"{problem} ({error.__class__.__name__})") from None
    for name, tenant in found.items():
        keys = (tenant.site_key, tenant.identity_secret, tenant.token_secret)
        if not all(isinstance(key, str) and key for key in keys):
            raise SettingsError("KEFU_TENANTS", f"leaves a key of tenant {name!r} empty")
        if not isinstance(tenant.desk_secret, str) or tenant.desk_secret in keys:
            raise SettingsError("KEFU_TENANTS", f"gives tenant {name!r} a desk_secret that is another of its keys")
    if not found:
        raise SettingsError("KEFU_TENANTS", "names no tenant")
    return found


def _page_tenant(env: Environment, listed: Mapping[str, Tenant]) -> str:
    name = text(env, "KEFU_PAGE_TENANT", next(iter(listed)))
    if name not in listed:
        raise SettingsError("KEFU_PAGE_TENANT", "names no tenant of KEFU_TENANTS")
    return name


@dataclass(frozen=True)
class GatewaySettings:
    """The door. Times in seconds, rates in requests a second.

    Attributes:
        user_rate: messages of one user, 0 for no limit; twice as many may come at once.
        max_unanswered: messages of one user accepted here and not yet seen answered, 0 for no limit.
        desk_rate: requests of one person at the desk, 0 for no limit; twice as many may come at once.
        session_rate: new sessions from one address, 0 for no limit; twice as many may come at once.
        proxies: how many trusted proxies append to X-Forwarded-For; 0 means that none does.
        page_tenant: the shop whose chat page is served at `/`.
        demo_login: lets anyone be alice or bob of the tenant `demo`; for a machine of one's own only.
        access_log: whether each request gets a line.
    """

    host: str
    port: int
    tenants: Mapping[str, Tenant]
    receipt_secret: str = field(repr=False)
    accept_timeout_s: float = 5.0
    wait_limit_s: float = 60.0
    heartbeat_s: float = 15.0
    max_streams: int = 10_000
    max_user_streams: int = 8
    user_rate: float = 10.0
    max_unanswered: int = 50
    desk_rate: float = 20.0
    session_rate: float = 100.0
    proxies: int = 0
    drain_s: float = 10.0
    page_tenant: str = ""
    demo_login: bool = False
    access_log: bool = True

    @classmethod
    def from_env(cls, env: Environment = os.environ) -> "GatewaySettings":
        """Read the section; raises SettingsError naming the key at fault."""
        listed = tenants(env)
        return cls(
            host=text(env, "KEFU_GATEWAY_HOST", "127.0.0.1"),
            port=port(env, "KEFU_GATEWAY_PORT", 8080),
            tenants=listed,
            receipt_secret=secret(env, "KEFU_RECEIPT_SECRET"),
            accept_timeout_s=number(env, "KEFU_ACCEPT_TIMEOUT_S", 5.0, 0.1, 60),
            wait_limit_s=number(env, "KEFU_WAIT_LIMIT_S", 60.0, 1, 300),
            heartbeat_s=number(env, "KEFU_HEARTBEAT_S", 15.0, 0.1, 60),
            max_streams=integer(env, "KEFU_MAX_STREAMS", 10_000, 1, 1_000_000),
            max_user_streams=integer(env, "KEFU_MAX_USER_STREAMS", 8, 1, 1000),
            user_rate=number(env, "KEFU_USER_RATE", 10.0, 0, 100_000),
            max_unanswered=integer(env, "KEFU_MAX_UNANSWERED", 50, 0, 10_000),
            desk_rate=number(env, "KEFU_DESK_RATE", 20.0, 0, 100_000),
            session_rate=number(env, "KEFU_SESSION_RATE", 100.0, 0, 100_000),
            proxies=integer(env, "KEFU_PROXIES", 0, 0, 10),
            drain_s=number(env, "KEFU_GATEWAY_DRAIN_S", 10.0, 0, 600),
            page_tenant=_page_tenant(env, listed),
            demo_login=integer(env, "KEFU_DEMO_LOGIN", 0, 0, 1) == 1,
            access_log=integer(env, "KEFU_ACCESS_LOG", 1, 0, 1) == 1,
        )


@dataclass(frozen=True)
class WorkerSettings:
    """The dialogue worker. Times in seconds, counts in messages or conversations.

    Attributes:
        idle_s: how long a customer may be silent before the domain's `form_idled` or `session_idled`
            is triggered; 0 for never. Peers ask after 5 minutes, within the 30 of a session.
        handoff_wait_s: how long a customer waits for a person, to come or for the next word, before the assistant
            takes the conversation back and says so.
        mend_window_s: how far back published turns are compared with what a failed-over Redis has; more
            than a replica may lag behind its master.
        track: `blue` or `green`, which of a release's two sets of workers this is of; empty where there is one set.
        release_plan: says which track is active; needed with `track`. See `kefu.worker.release`.
    """

    host: str
    port: int
    health_port: int
    action_url: str
    turn_deadline_s: float = 10.0
    action_timeout_s: float = 3.0
    attempts: int = 3
    poll_messages: int = 64
    inflight_messages: int = 512
    turns_at_once: int = 64
    live_trackers: int = 2000
    live_turns: int = 10_000
    nlu_remembered: int = 1000
    drain_s: float = 20.0
    mend_window_s: float = 120.0
    rehearsal_s: float = 2.0  # a slow model has felt most of its code by then, and a replica must not be late
    idle_s: float = 300.0
    handoff_wait_s: float = 600.0
    model: str = "models"
    api_token: str = field(default="", repr=False)
    tls_directory: str = ""
    track: str = ""
    release_plan: str = ""

    @classmethod
    def from_env(cls, env: Environment = os.environ) -> "WorkerSettings":
        """Read the section; raises SettingsError naming the key at fault."""
        if text(env, "SANIC_WORKERS", "1") != "1":
            raise SettingsError("SANIC_WORKERS", "can't take effect: start one worker process for each core instead")
        track = text(env, "KEFU_TRACK", "")
        return cls(
            host=text(env, "KEFU_WORKER_HOST", "127.0.0.1"),
            port=port(env, "KEFU_WORKER_PORT", 5005),
            health_port=port(env, "KEFU_WORKER_HEALTH_PORT", 5006),
            action_url=text(env, "ACTION_ENDPOINT_URL"),
            turn_deadline_s=number(env, "KEFU_TURN_DEADLINE_S", 10.0, 0.5, 120),
            action_timeout_s=number(env, "KEFU_ACTION_TIMEOUT_S", 3.0, 0.1, 60),
            attempts=integer(env, "KEFU_TURN_ATTEMPTS", 3, 1, 20),
            poll_messages=integer(env, "KEFU_POLL_MESSAGES", 64, 1, 1000),
            inflight_messages=integer(env, "KEFU_INFLIGHT_MESSAGES", 512, 1, 100_000),
            turns_at_once=integer(env, "KEFU_TURNS_AT_ONCE", 64, 1, 10_000),
            live_trackers=integer(env, "KEFU_LIVE_TRACKERS", 2000, 1, 1_000_000),
            live_turns=integer(env, "KEFU_LIVE_TURNS", 10_000, 1, 10_000_000),
            nlu_remembered=integer(env, "KEFU_NLU_REMEMBERED", 1000, 0, 1_000_000),
            drain_s=number(env, "KEFU_DRAIN_S", 20.0, 0, 600),
            idle_s=number(env, "KEFU_IDLE_S", 300.0, 0, 86_400),
            handoff_wait_s=number(env, "KEFU_HANDOFF_WAIT_S", 600.0, 1, 86_400),
            rehearsal_s=number(env, "KEFU_REHEARSAL_S", 2.0, 0, 60),
            mend_window_s=number(env, "KEFU_MEND_WINDOW_S", 120.0, 1, 7 * 24 * 3600),
            model=text(env, "KEFU_MODEL", "models"),
            api_token=secret(env, "KEFU_RASA_TOKEN", ""),
            tls_directory=text(env, "KEFU_TLS_DIRECTORY", ""),
            track=track,
            release_plan=text(env, "KEFU_RELEASE_PLAN") if track else "",
        )


@dataclass(frozen=True)
class ActionSettings:
    """The action server and its only way into the company's systems."""

    host: str
    port: int
    health_port: int
    shop_url: str
    shop_token: str = field(repr=False)
    shop_timeout_s: float = 2.0
    tls_directory: str = ""

    @classmethod
    def from_env(cls, env: Environment = os.environ) -> "ActionSettings":
        """Read the section; raises SettingsError naming the key at fault."""
        return cls(
            host=text(env, "KEFU_ACTION_HOST", "127.0.0.1"),
            port=port(env, "KEFU_ACTION_PORT", 5055),
            health_port=port(env, "KEFU_ACTION_HEALTH_PORT", 5057),
            shop_url=text(env, "SHOP_URL"),
            shop_token=secret(env, "KEFU_SHOP_TOKEN"),
            shop_timeout_s=number(env, "KEFU_SHOP_TIMEOUT_S", 2.0, 0.05, 60),
            tls_directory=text(env, "KEFU_TLS_DIRECTORY", ""),
        )


@dataclass(frozen=True)
class ShopSettings:
    """The demo order system of `ops/local/shop`. `token` admits the action server alone."""

    host: str
    port: int
    database_url: str = field(repr=False)
    token: str = field(repr=False)

    @classmethod
    def from_env(cls, env: Environment = os.environ) -> "ShopSettings":
        """Read the section; raises SettingsError naming the key at fault."""
        return cls(
            host=text(env, "KEFU_SHOP_HOST", "127.0.0.1"),
            port=port(env, "KEFU_SHOP_PORT", 8090),
            database_url=secret(env, "KEFU_SHOP_DATABASE_URL"),
            token=secret(env, "KEFU_SHOP_TOKEN"),
        )
