"""`make run`: runs the whole system on this machine until Ctrl-C."""

import fcntl
import os
import shlex
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Dict, List

import psutil

from ops.local.servers import LOCAL, STOP_S, listening
from ops.local.setup import MODEL_SETUP
from ops.local.stack import Stack, local_ports

DIRECTORY = LOCAL / "run"


def main() -> int:
    """Run the system until SIGINT, SIGTERM or SIGHUP. Returns 0, or 1 if it could not start."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    with open(DIRECTORY / "lock", "w") as lock, ModelSetup(os.environ.pop(MODEL_SETUP, None)) as model:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _fail("make run is running already: stop it first (Ctrl-C in its terminal)")
        ports = local_ports(os.environ)
        taken = _taken(ports)
        if taken:
            return _fail("\n".join(taken))
        return _run(Stack(DIRECTORY, ports, os.environ, tell=partial(print, flush=True)), model)


def _run(stack: Stack, model: "ModelSetup") -> int:
    ended = threading.Event()

    def end(*_: Any) -> None:
        if not ended.is_set():
            ended.set()
            raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    code = 0
    try:
        stack.start(model.wait)
        _greet(stack)
        while not ended.wait(3600):
            pass
    except KeyboardInterrupt:
        print("\nstopping", flush=True)
    except (RuntimeError, OSError) as error:
        code = _fail(str(error))
    finally:
        ended.set()
        stack.stop()
    print("stopped", flush=True)
    return code


class ModelSetup:
    """The child process that installs Rasa and trains, see `ops.local.setup`; it does not outlive the `with` block.

    Args:
        pid: None if this process was started alone, with the model there.
    """

    def __init__(self, pid: str | None) -> None:
        self._pid = int(pid) if pid else None

    def __enter__(self) -> "ModelSetup":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pid is None:
            return
        os.kill(self._pid, signal.SIGTERM)
        end = time.monotonic() + STOP_S
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.05)

    def wait(self) -> None:
        """Block until the model is there. Raises RuntimeError if it can't be made; the child has said why."""
        if self._pid is None:
            return
        _, status = os.waitpid(self._pid, 0)
        self._pid = None
        if status:
            raise RuntimeError("there is no model to serve")


def _greet(stack: Stack) -> None:
    path = stack.directory / "tokens.env"
    tokens = write_tokens(stack, path)
    print(
        f"""
chat page       {tokens["KEFU_URL"]}/
a guest         {tokens["GUEST"]}
alice           {tokens["TOKEN"]}
the desk        {tokens["DESK"] or "none: KEFU_TENANTS has no desk_secret"}
in a shell      . {_short(path)}   # sets {", ".join(f"${name}" for name in tokens)}
then try        curl -s $KEFU_URL/v1/messages -H "Authorization: Bearer $TOKEN" \\
                  -H 'Content-Type: application/json' -H 'Prefer: wait=10' \\
                  -d '{{"text": "where is my order 20260001?"}}'
logs            {_short(stack.directory / "logs")}
Ctrl-C stops everything.""",
        flush=True,
    )


def write_tokens(stack: Stack, path: Path) -> Dict[str, str]:
    """Write the gateway's address and tokens into a file for a shell to source; return them by variable.

    Only the file's owner may read it.
    """
    tokens = {
        "KEFU_URL": stack.url("gateway"),
        "TOKEN": stack.token("alice"),
        "GUEST": stack.token(),
        "DESK": stack.desk_token(),
    }
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in tokens.items())
    fresh.replace(path)
    return tokens


def _short(path: Path) -> str:
    return os.path.relpath(path)


def _taken(ports: Dict[str, int]) -> List[str]:
    """Return a line for each needed port on which another process listens, and one for ports that are equal."""
    unused = {
        name
        for variable, names in (
            ("KAFKA_BROKERS", ("KEFU_KAFKA_PORT", "KEFU_KAFKA_CONTROLLER_PORT")),
            ("REDIS_URL", ("KEFU_REDIS_PORT",)),
        )
        if os.environ.get(variable)
        for name in names
    }
    needed = {name: port for name, port in ports.items() if name not in unused}
    lines = [
        f"port {port} is taken by {_holder(port)}: set {name} to another one"
        for name, port in needed.items()
        if listening(port)
    ]
    twice = [name for name, port in needed.items() if list(needed.values()).count(port) > 1]
    return lines + ([f"{', '.join(twice)} name the same port"] if twice else [])


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass  # the system doesn't show another user's processes
    return "another process"


def _fail(why: str) -> int:
    print(why, file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
