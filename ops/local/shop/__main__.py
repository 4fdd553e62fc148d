"""`python -m ops.local.shop`: the demo shop, until SIGINT or SIGTERM."""

import asyncio
import sys

from kefu.errors import SettingsError
from kefu.logs import configure
from kefu.settings import ShopSettings
from ops.local.shop.app import create_app
from ops.local.shop.database import prepare


def main() -> None:
    """Serve. A wrong setting ends the process with a sentence that names the setting."""
    configure("shop")
    try:
        settings = ShopSettings.from_env()
        asyncio.run(prepare(settings.database_url))  # before serving: a failure ends the process
        app = create_app(settings)
    except SettingsError as error:
        sys.exit(f"shop: {error}")
    app.run(settings.host, settings.port, single_process=True, motd=False, access_log=False)


if __name__ == "__main__":
    main()
