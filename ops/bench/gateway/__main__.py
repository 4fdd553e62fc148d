"""`python -m ops.bench.gateway [accept|wait|streams|idle ...]`: measures one gateway process; prints JSON lines.

accept: POST answered by 202. wait: POST with `Prefer: wait`, answered by a stand-in for the worker. streams: replies
delivered on open streams. idle: open streams without replies. wrk drives the first two. CPU is that of the processes,
in us a message. The rates depend on the machine's other load.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict

from ops.bench.gateway.machine import Machine
from ops.local.servers import HOST

LUA = Path(__file__).parent / "requests.lua"
WARM_S = 3  # how long the load runs before it is measured
STREAM_REPLIES_PER_S = 1000  # the stand-in for the worker stores this many replies for the streams


def _wrk(machine: Machine, seconds: float, connections: int, status: int, prefer: str = "") -> Dict[str, Any]:
    environment = {**machine.environment, "PREFER": prefer, "STATUS": str(status)}
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "10s", "-s", str(LUA), machine.url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))[7:])


def _posts(machine: Machine, options: argparse.Namespace, status: int, prefer: str = "") -> Dict[str, Any]:
    while not _wrk(machine, WARM_S, options.connections, status, prefer)["answers"]:
        pass  # no answers: the stand-in for the worker has not joined its consumer group yet
    before = machine.costs()
    found = _wrk(machine, options.seconds, options.connections, status, prefer)
    after = machine.costs()
    found["per_s"] = round(found["answers"] / found["seconds"])
    found["cpu_us"] = {
        name: round((after[name].cpu_s - cost.cpu_s) * 1e6 / max(1, found["answers"])) for name, cost in before.items()
    }
    return found


def accept(machine: Machine, options: argparse.Namespace) -> Dict[str, Any]:
    """Measure messages that are accepted by 202."""
    return _posts(machine, options, 202)


def wait(machine: Machine, options: argparse.Namespace) -> Dict[str, Any]:
    """Measure messages that are accepted and answered in one request."""
    machine.start("worker", ["ops.bench.gateway.worker"])
    try:
        return _posts(machine, options, 200, "wait=10")
    finally:
        machine.end("worker")


class _Client:
    """The client of many streams, a process of its own."""

    def __init__(self, machine: Machine, count: int) -> None:
        command = [sys.executable, "-m", "ops.bench.gateway.streams", HOST, str(machine.port), str(count)]
        self._process = subprocess.Popen(
            command, env=machine.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.replies()

    def replies(self) -> int:
        """Return how many replies have come; the first time, wait until all streams are open."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the client's process."""
        self._process.communicate()


def _on_streams(machine: Machine, options: argparse.Namespace, replies_per_s: int) -> Dict[str, Any]:
    empty = machine.costs()["gateway"]
    client = _Client(machine, options.streams)
    if replies_per_s:
        machine.start("worker", ["ops.bench.gateway.worker", str(replies_per_s)])
    time.sleep(WARM_S)
    before, replies = machine.costs()["gateway"], client.replies()
    time.sleep(options.seconds)
    cpu_s, replies = machine.costs()["gateway"].cpu_s - before.cpu_s, client.replies() - replies
    if replies_per_s:
        machine.end("worker")
    client.close()
    found = {"streams": options.streams, "cpu_ms_per_s": round(cpu_s * 1e3 / options.seconds, 1)}
    if replies_per_s:
        return {**found, "replies": replies, "cpu_us_per_reply": round(cpu_s * 1e6 / max(1, replies))}
    kilobytes = (before.rss_bytes - empty.rss_bytes) / options.streams / 1024
    return {**found, "memory_kb_per_stream": round(kilobytes, 1)}


def streams(machine: Machine, options: argparse.Namespace) -> Dict[str, Any]:
    """Measure replies that are delivered on open streams."""
    return _on_streams(machine, options, STREAM_REPLIES_PER_S)


def idle(machine: Machine, options: argparse.Namespace) -> Dict[str, Any]:
    """Measure open streams on which no replies come."""
    return _on_streams(machine, options, 0)


MEASURES: Dict[str, Callable[[Machine, argparse.Namespace], Dict[str, Any]]] = {
    "accept": accept,
    "wait": wait,
    "streams": streams,
    "idle": idle,
}


def main() -> None:
    """Do the measurements that the arguments name, each with new servers and a new gateway."""
    parser = argparse.ArgumentParser(prog="python -m ops.bench.gateway", description=__doc__)
    parser.add_argument("measures", nargs="*", default=[], help=" ".join(MEASURES))
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--users", type=int, default=1000)
    options = parser.parse_args()
    for name in options.measures or MEASURES:
        with tempfile.TemporaryDirectory() as directory, Machine(Path(directory), options.users).running() as machine:
            print(json.dumps({"measure": name, **MEASURES[name](machine, options)}), flush=True)


if __name__ == "__main__":
    main()
