"""The stack of one build, run by the build's own code: `python -P build_stack.py DIRECTORY SETTINGS`.

`build.py` starts it in the build's folder. It imports only the build's `ops.local`, because a commit must be started by
its own code. It prints a line of JSON when all processes are ready, and stops them when its input ends.
"""

import json
import signal
import sys
from pathlib import Path

from ops.local.servers import HOST
from ops.local.stack import Stack, free_ports

NAMES = ("worker", "gateway", "kafka", "redis", "actions", "shop")


def main() -> None:
    """Start the stack, print its addresses as JSON, wait for the end of the input, stop the stack."""
    # A terminal's Ctrl-C also reaches the bench, which then ends this process's input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stack = Stack(Path(sys.argv[1]), free_ports(), tell=lambda _: None, overrides=json.loads(sys.argv[2]))
    try:
        stack.start()
        print(json.dumps(_facts(stack)), flush=True)
        sys.stdin.read()
    except RuntimeError as error:
        sys.exit(str(error))
    finally:
        stack.stop()


def _facts(stack: Stack) -> "dict[str, object]":
    """Return the process ids and addresses that the bench needs."""
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
