"""The gateway: tenants, limits, times."""

import json
import os
from dataclasses import dataclass, field, replace
from typing import Dict, Mapping

from kefu.errors import SettingsError
from kefu.settings.declaring import Environment, Section, Setting, filled_by, setting

RATE = "requests/s"


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


def _tenants(document: str) -> Dict[str, Tenant]:
    try:
        listed = json.loads(document)
        parsed = {name: Tenant(name=name, **keys) for name, keys in listed.items()}
    except (ValueError, TypeError, AttributeError) as error:
        # `from None`: the JSON error would show the document, which holds secrets.
        problem = "must be a JSON object: tenant name to site_key, identity_secret, token_secret, maybe desk_secret"
        raise SettingsError("KEFU_TENANTS", f"{problem} ({error.__class__.__name__})") from None
    for name, tenant in parsed.items():
        keys = (tenant.site_key, tenant.identity_secret, tenant.token_secret)
        if not all(isinstance(key, str) and key for key in keys):
            raise SettingsError("KEFU_TENANTS", f"leaves a key of tenant {name!r} empty")
        if not isinstance(tenant.desk_secret, str) or tenant.desk_secret in keys:
            raise SettingsError("KEFU_TENANTS", f"gives tenant {name!r} a desk_secret that is another of its keys")
    if not parsed:
        raise SettingsError("KEFU_TENANTS", "names no tenant")
    return parsed


TENANTS = Setting(
    "KEFU_TENANTS",
    secret=True,
    convert=_tenants,
    meaning="The shops, a JSON object: tenant name to `site_key`, `identity_secret`, `token_secret` and, for a desk, "
    "`desk_secret`.",
)


def tenants(env: Environment = os.environ) -> Dict[str, Tenant]:
    """Read `KEFU_TENANTS`; raises SettingsError."""
    return TENANTS.read(env)


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(Section):
    """The gateway: its port, its tenants, its limits and times."""

    host: str = setting("KEFU_GATEWAY_HOST", default="127.0.0.1", meaning="Address to listen on.")
    port: int = setting("KEFU_GATEWAY_PORT", int, 8080, 1, 65535, meaning="Port of customers, probes and metrics.")
    tenants: Mapping[str, Tenant] = filled_by(TENANTS)
    receipt_secret: str = setting(
        "KEFU_RECEIPT_SECRET",
        secret=True,
        meaning="Key of the receipts of accepted messages; the same for every gateway.",
    )
    accept_timeout_s: float = setting(
        "KEFU_ACCEPT_TIMEOUT_S", float, 5, 0.1, 60, unit="s", meaning="Longest wait for Kafka to acknowledge a message."
    )
    wait_limit_s: float = setting(
        "KEFU_WAIT_LIMIT_S",
        float,
        60,
        1,
        300,
        unit="s",
        meaning="Longest wait for an answer that a request may ask for.",
    )
    heartbeat_s: float = setting(
        "KEFU_HEARTBEAT_S",
        float,
        15,
        0.1,
        60,
        unit="s",
        meaning="After this time without an event, an event stream gets an empty comment, so that it stays open.",
    )
    max_streams: int = setting(
        "KEFU_MAX_STREAMS", int, 10_000, 1, 1_000_000, unit="streams", meaning="Most open event streams of a process."
    )
    max_user_streams: int = setting(
        "KEFU_MAX_USER_STREAMS", int, 8, 1, 1000, unit="streams", meaning="Most open event streams of one user."
    )
    user_rate: float = setting(
        "KEFU_USER_RATE",
        float,
        10,
        0,
        100_000,
        unit=RATE,
        meaning="Messages of one user; twice as many may come at once. 0 for no limit.",
    )
    max_unanswered: int = setting(
        "KEFU_MAX_UNANSWERED",
        int,
        50,
        0,
        10_000,
        unit="messages",
        meaning="Most messages of one user that a process has accepted and not seen answered. 0 for no limit.",
    )
    desk_rate: float = setting(
        "KEFU_DESK_RATE",
        float,
        20,
        0,
        100_000,
        unit=RATE,
        meaning="Requests of one person at the desk; twice as many may come at once. 0 for no limit.",
    )
    session_rate: float = setting(
        "KEFU_SESSION_RATE",
        float,
        100,
        0,
        100_000,
        unit=RATE,
        meaning="New sessions from one address; twice as many may come at once. 0 for no limit.",
    )
    proxies: int = setting(
        "KEFU_PROXIES",
        int,
        0,
        0,
        10,
        unit="proxies",
        meaning="Trusted proxies in front that append to X-Forwarded-For. 0 for none.",
    )
    drain_s: float = setting(
        "KEFU_GATEWAY_DRAIN_S", float, 10, 0, 600, unit="s", meaning="Longest wait for open requests when it stops."
    )
    page_tenant: str = setting(
        "KEFU_PAGE_TENANT",
        default="",
        meaning="The tenant whose chat page is served at `/`; empty for the first of KEFU_TENANTS.",
    )
    demo_login: bool = setting(
        "KEFU_DEMO_LOGIN",
        bool,
        False,
        meaning="Lets anyone be alice or bob of the tenant `demo`. For a machine of one's own only.",
    )
    access_log: bool = setting("KEFU_ACCESS_LOG", bool, True, meaning="A log line for each request.")

    @classmethod
    def from_env(cls, env: Environment = os.environ) -> "GatewaySettings":
        """Read the section; raises SettingsError, which names the key at fault."""
        read = super().from_env(env)
        page_tenant = read.page_tenant or next(iter(read.tenants))
        if page_tenant not in read.tenants:
            raise SettingsError("KEFU_PAGE_TENANT", "names no tenant of KEFU_TENANTS")
        return replace(read, page_tenant=page_tenant)
