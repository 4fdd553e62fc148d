"""`python -m ops.warmup`: start the system here, restart its worker, and print how slow its first answers were."""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from ops.local.stack import Stack, free_ports
from ops.warmup.measure import measure


def main() -> int:
    """Measure once and print the figures; return 0."""
    with tempfile.TemporaryDirectory(prefix="kefu-warmup-") as folder:
        stack = Stack(Path(folder), free_ports(), tell=lambda _: None, overrides={"KEFU_USER_RATE": "0"})
        try:
            stack.start()
            warmth = measure(stack)
        finally:
            stack.stop()
    print(json.dumps({**asdict(warmth), "slowdown": warmth.slowdown}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
