"""`python -m ops.local.shop.migrations REVISION`: bring the shop's database to `head`, `0001`, ... or `base` (nothing).

The shop migrates to `head` itself when it starts. This command is for a return to an older shop.
"""

import asyncio
import sys

from kefu.errors import SettingsError
from kefu.settings import ShopSettings
from ops.local.shop.database import move


def main(arguments: list[str]) -> None:
    """Migrate. If that is impossible, end the process with a sentence."""
    if len(arguments) != 1:
        sys.exit("usage: python -m ops.local.shop.migrations REVISION")
    try:
        asyncio.run(move(ShopSettings.from_env().database_url, arguments[0]))
    except SettingsError as error:
        sys.exit(f"shop: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
