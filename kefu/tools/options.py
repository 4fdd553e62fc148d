"""Argument types that several commands use, a time and a number, checked before any connection is made."""

import argparse
import re
from datetime import datetime, timezone

from kefu.events import now_ms

_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def moment(raw: str) -> int:
    """Return the time in a command's argument, `2h` (ago) or ISO 8601 (UTC without a zone), in ms since the epoch."""
    ago = re.fullmatch(r"(\d{1,6})([smhd])", raw)
    if ago:
        return now_ms() - int(ago[1]) * _UNITS_MS[ago[2]]
    try:
        parsed = datetime.fromisoformat(raw)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{raw!r} is neither like 2h nor ISO 8601") from None
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)).timestamp() * 1000)


def count(raw: str) -> int:
    """Return the whole number above 0 in a command's argument."""
    if not re.fullmatch(r"[1-9]\d{0,8}", raw):
        raise argparse.ArgumentTypeError(f"{raw!r} is not a number above 0")
    return int(raw)
