"""The action server, and the demo shop that it calls."""

from dataclasses import dataclass

from kefu.settings.declaring import Section, Setting, filled_by, setting
from kefu.settings.worker import TLS_DIRECTORY

SHOP_TOKEN = Setting(
    "KEFU_SHOP_TOKEN", secret=True, meaning="Token of the action server's calls; the shop refuses calls without it."
)


@dataclass(frozen=True, kw_only=True)
class ActionSettings(Section):
    """The action server and its access to the shop, the only one of the company's systems that it calls."""

    host: str = setting("KEFU_ACTION_HOST", default="127.0.0.1", meaning="Address to listen on.")
    port: int = setting("KEFU_ACTION_PORT", int, 5055, 1, 65535, meaning="Port of the worker's calls.")
    health_port: int = setting("KEFU_ACTION_HEALTH_PORT", int, 5057, 1, 65535, meaning="Port of probes and metrics.")
    shop_url: str = setting("SHOP_URL", meaning="The shop's API, `http://` or `https://`.")
    shop_token: str = filled_by(SHOP_TOKEN)
    shop_timeout_s: float = setting(
        "KEFU_SHOP_TIMEOUT_S", float, 2, 0.05, 60, unit="s", meaning="Longest time of one call to the shop."
    )
    tls_directory: str = filled_by(TLS_DIRECTORY)


@dataclass(frozen=True, kw_only=True)
class ShopSettings(Section):
    """The demo order system of `ops/local/shop`. Only the action server knows its `token`."""

    host: str = setting("KEFU_SHOP_HOST", default="127.0.0.1", meaning="Address to listen on.")
    port: int = setting("KEFU_SHOP_PORT", int, 8090, 1, 65535, meaning="Port of calls, probes and metrics.")
    database_url: str = setting(
        "KEFU_SHOP_DATABASE_URL",
        secret=True,
        meaning="Where the orders are: `sqlite:///FILE` or `postgresql://user:password@host/name`.",
    )
    token: str = filled_by(SHOP_TOKEN)
