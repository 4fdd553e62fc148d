"""Checks whether Kafka and Redis accept this process's connection, and names the wrong setting if they don't.

Used by `python -m kefu PROCESS --check` and the operators' tools.
"""

import asyncio
import importlib
from typing import Any, Dict, List

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from kefu.errors import StoreUnavailable
from kefu.settings import KafkaSettings, RedisSettings

POLL_S = 0.1  # how long a client is polled for the errors of its connections
# The module of the Redis client that each process uses. Both modules have the same functions.
REDIS_CLIENTS = {"gateway": "kefu.gateway.answer.redis_client", "worker": "kefu.worker.storage.redis_client"}


def kafka_problem(kafka: KafkaSettings, within_s: float) -> str:
    """Return why no Kafka broker accepts a connection, in a sentence that names the wrong setting. Blocks.

    Empty if a broker accepts one.
    """
    errors: List[KafkaError] = []
    config: Dict[str, Any] = {**kafka.client_config(), "error_cb": errors.append, "log_level": 0}
    try:
        client = AdminClient(config)
        client.list_topics(timeout=within_s)
    except KafkaException as error:
        errors.append(error.args[0])
        if error.args[0].code() != KafkaError._INVALID_ARG:
            client.poll(POLL_S)  # calls `error_cb` with the errors of the connections
    else:
        return ""
    codes = {error.code() for error in errors}
    if KafkaError._AUTHENTICATION in codes:
        return f"KAFKA_SASL_USERNAME or KAFKA_SASL_PASSWORD is refused by {kafka.brokers}"
    if KafkaError._INVALID_ARG in codes:
        return f"KAFKA_CA_FILE can't be used: {errors[-1].str()}"
    if KafkaError._SSL in codes:
        return f"KAFKA_CA_FILE or KAFKA_SECURITY_PROTOCOL doesn't fit {kafka.brokers}: its TLS is refused"
    if KafkaError._RESOLVE in codes:
        return f"KAFKA_BROKERS names a host that nobody knows: {kafka.brokers}"
    protocol = f"KAFKA_SECURITY_PROTOCOL is {kafka.security_protocol}"
    return f"KAFKA_BROKERS names {kafka.brokers}, where no broker answers ({protocol})"


def redis_problem(settings: RedisSettings, side: str, within_s: float) -> str:
    """Return why Redis doesn't accept a connection, in a sentence that names the wrong setting. Blocks.

    Empty if it accepts one.

    Args:
        settings: the settings to try.
        side: `gateway` or `worker`: the process whose Redis client is used.
        within_s: how long to wait.
    """
    return asyncio.run(_redis_problem(settings, side, within_s))


async def _redis_problem(settings: RedisSettings, side: str, within_s: float) -> str:
    redis = importlib.import_module("redis.exceptions")
    servers = importlib.import_module(REDIS_CLIENTS[side]).connect(settings)

    async def ping() -> None:
        await (await servers.holding(b"any")).ping()

    try:
        await asyncio.wait_for(ping(), within_s)
    except (redis.AuthenticationError, redis.NoPermissionError):
        return "REDIS_URL has a user or password that Redis refuses"
    except (redis.RedisError, StoreUnavailable, OSError, asyncio.TimeoutError) as error:
        return f"REDIS_URL names no Redis that answers ({type(error).__name__})"
    finally:
        await servers.close()
    return ""
