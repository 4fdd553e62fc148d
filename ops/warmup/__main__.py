"""`python -m ops.warmup`: starts everything here, then a worker anew, and says how warm its first answers were."""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from ops.local.stack import Stack, free_ports
from ops.warmup.measure import measure


def main() -> int:
    """Measure once and print; returns 0."""
    with tempfile.TemporaryDirectory(prefix="kefu-warmup-") as folder:
        stack = Stack(Path(folder), free_ports(), tell=lambda _: None, overrides={"KEFU_USER_RATE": "0"})
        try:
            stack.start()
            found = measure(stack)
        finally:
            stack.stop()
    print(json.dumps({**asdict(found), "slowdown": found.slowdown}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
