"""The stack of one build, run by the build's own code: `python -P build_stack.py DIRECTORY SETTINGS`.

`build.py` starts it in the build's folder. It imports nothing but the build's `ops.local.stack`, for
the code of a commit knows best how to start itself. It prints a line of JSON once all is ready, and
stops all when its input ends.
"""

import json
import signal
import sys
from pathlib import Path

from ops.local.servers import HOST
from ops.local.stack import Stack, free_ports

NAMES = ("worker", "gateway", "kafka", "redis", "actions", "shop")


def main() -> None:
    """Start, tell, wait, stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the bench too, which ends our input
    stack = Stack(Path(sys.argv[1]), free_ports(), tell=lambda _: None, overrides=json.loads(sys.argv[2]))
    try:
        stack.start()
        print(json.dumps(_told(stack)), flush=True)
        sys.stdin.read()
    except RuntimeError as error:
        sys.exit(str(error))
    finally:
        stack.stop()


def _told(stack: Stack) -> "dict[str, object]":
    return {
        "pids": {name: stack.pid(name) for name in NAMES},
        "gateway": stack.url("gateway"),
        "token_secret": stack.token_secret,
        "shop_database": str(stack.shop_database),
        "actions_metrics": f"http://{HOST}:{stack.ports['KEFU_ACTION_HEALTH_PORT']}",
        "worker_metrics": f"http://{HOST}:{stack.ports['KEFU_WORKER_HEALTH_PORT']}",
    }


if __name__ == "__main__":
    main()
