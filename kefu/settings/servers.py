"""Kafka and Redis: the settings that several processes share."""

import os
from dataclasses import dataclass
from typing import Any, Dict, Optional

from kefu import redis_url
from kefu.settings.declaring import Environment, Read, Section, Setting, filled_by, setting


def _by_sasl(read: Read) -> bool:
    return read["security_protocol"].startswith("SASL")


def _by_tls(read: Read) -> bool:
    return read["security_protocol"].endswith("SSL")


@dataclass(frozen=True)
class KafkaSettings(Section):
    """Kafka: its brokers, how to connect to them, and the topics."""

    brokers: str = setting("KAFKA_BROKERS", meaning="Brokers to begin with: `host:port,host:port`.")
    security_protocol: str = setting(
        "KAFKA_SECURITY_PROTOCOL",
        default="PLAINTEXT",
        choices=("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        meaning="TLS, a login (SCRAM-SHA-512), or both.",
    )
    sasl_username: str = setting("KAFKA_SASL_USERNAME", only_if=_by_sasl, meaning="Name of the login. With SASL only.")
    sasl_password: str = setting(
        "KAFKA_SASL_PASSWORD", secret=True, only_if=_by_sasl, meaning="Password of the login. With SASL only."
    )
    ca_file: str = setting(
        "KAFKA_CA_FILE",
        default="",
        only_if=_by_tls,
        meaning="File with the authority of the brokers' certificates; empty for the system's. With TLS only.",
    )
    topic_prefix: str = setting("KEFU_TOPIC_PREFIX", default="", meaning="Put before the name of every topic.")
    partitions: int = setting(
        "KEFU_TOPIC_PARTITIONS",
        int,
        8,
        1,
        4096,
        unit="partitions",
        meaning="Partitions of each topic that `python -m kefu topics` creates.",
    )
    replication: int = setting(
        "KEFU_TOPIC_REPLICATION",
        int,
        1,
        1,
        9,
        unit="copies",
        meaning="Replicas of each partition that `python -m kefu topics` creates.",
    )
    group: str = setting("KEFU_CONSUMER_GROUP", default="kefu-worker", meaning="The workers' consumer group.")
    linger_ms: float = setting(
        "KEFU_KAFKA_LINGER_MS",
        float,
        10,
        0,
        1000,
        unit="ms",
        meaning="How long a record waits for further records of its partition, so that they are sent in one request.",
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


def _readable(url: str) -> str:
    redis_url.parse(url)  # makes a wrong URL stop the start, rather than fail the first call
    return url


REDIS_URL = Setting(
    redis_url.KEY,
    secret=True,
    convert=_readable,
    meaning="Where the conversations are kept: one server, Sentinels or a cluster; forms and options: "
    "`kefu/redis_url.py`. `/`, `?` and `%` in a user name or password are percent-encoded.",
)


@dataclass(frozen=True)
class RedisSettings(Section):
    """Redis, which keeps the conversations. The URL may hold a password, so it is never shown."""

    url: str = filled_by(REDIS_URL)
    key_prefix: str = setting("KEFU_KEY_PREFIX", default="kefu", meaning="Put before the name of every key.")
    wait_replicas: int = setting(
        "KEFU_REDIS_WAIT_REPLICAS",
        int,
        0,
        0,
        5,
        unit="replicas",
        meaning="How many replicas must have a turn before it counts as written: all that each master has "
        "([record 5](decisions/0005-redis-by-url.md)). Worker.",
    )
    timeout_s: float = setting(
        "KEFU_REDIS_TIMEOUT_S", float, 2, 0.05, 60, unit="s", meaning="Longest time of a connect or a call."
    )

    @classmethod
    def from_env_if_set(cls, env: Environment = os.environ) -> Optional["RedisSettings"]:
        """Read the section; None if no URL is set. Raises SettingsError, which names the key at fault."""
        return cls.from_env(env) if REDIS_URL.is_set(env) else None
