"""Reads all settings from environment variables. No other module reads the environment.

Each process builds its frozen sections once, at its start, and passes them on. A section declares each variable once:
key, default, bounds, unit and meaning (`kefu.settings.declaring`). A secret may also come from a file that
`<KEY>_FILE` names (mounted by Kubernetes or Vault).
"""

from typing import Dict, Iterable

from kefu.settings.actions import ActionSettings, ShopSettings
from kefu.settings.declaring import Environment, Setting, settings_of
from kefu.settings.gateway import GatewaySettings, Tenant, tenants
from kefu.settings.servers import KafkaSettings, RedisSettings
from kefu.settings.tools import OPERATOR, PRINCIPALS, kafka_principals, operator
from kefu.settings.worker import SANIC_WORKERS, WorkerSettings

__all__ = [
    "ActionSettings",
    "Environment",
    "GatewaySettings",
    "KafkaSettings",
    "RedisSettings",
    "ShopSettings",
    "Tenant",
    "WorkerSettings",
    "declared_settings",
    "kafka_principals",
    "operator",
    "tenants",
]

TOKEN_LIFETIME_S = 24 * 3600  # how long a session token is valid
MARKER_LIFETIME_S = 7 * 24 * 3600  # longer than user.query is kept (3 days), see DESIGN promise 2
CONVERSATION_LIFETIME_S = 7 * 24 * 3600  # Redis deletes a conversation this long after its last write
MAX_TEXT_CHARS = 4000  # limits a customer's text; the gateway refuses a longer one
MAX_BODY_BYTES = 64 * 1024  # limits the body of a request to the gateway, which refuses a larger one


def declared_settings() -> Dict[str, Iterable[Setting]]:
    """Return all settings, by the processes that read them."""
    return {
        "Kafka: gateway, worker, operators' tools": settings_of(KafkaSettings).values(),
        "Redis: gateway, worker": settings_of(RedisSettings).values(),
        "Gateway": settings_of(GatewaySettings).values(),
        "Worker": [*settings_of(WorkerSettings).values(), SANIC_WORKERS],
        "Action server": settings_of(ActionSettings).values(),
        "Operators' tools": [OPERATOR, *PRINCIPALS.values()],
        "Demo shop": settings_of(ShopSettings).values(),
    }
