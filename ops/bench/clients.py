"""Kafka clients for Python compared: `python -m ops.bench.clients`, on a real Kafka of its own.

The clients live in an environment of their own, `.local/bench/clients`, made from the hash-locked
`ops/requirements/bench-clients.txt`. Results: `results/clients.json`, and a table.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

from ops.bench.measure import machine
from ops.bench.report import drawn_table
from ops.local.servers import LOCAL, ROOT, KafkaServer, free_port
from ops.local.setup import Stamp, find_uv

LOCKED = ROOT / "ops" / "requirements" / "bench-clients.txt"
ENVIRONMENT = LOCAL / "bench" / "clients"
CLIENTS = ("confluent-kafka", "kafka-python", "aiokafka")
OURS = "kefu.kafka"  # confluent-kafka through the project's own producer, in the services environment


def main() -> int:
    """Measure each client in a process of its own; prints the table. Returns 0."""
    python = environment()
    with tempfile.TemporaryDirectory(prefix="kefu-clients-") as folder:
        kafka = KafkaServer(Path(folder), free_port())
        kafka.start()
        try:
            kafka.wait_ready()
            found = {client: _measured(python, client, kafka.brokers) for client in CLIENTS}
            found[OURS] = _measured(Path(sys.executable), OURS, kafka.brokers)
        finally:
            kafka.stop()
    print(table(found))
    results = ROOT / "results"
    results.mkdir(exist_ok=True)
    (results / "clients.json").write_text(json.dumps({"machine": machine(), "clients": found}, indent=1) + "\n")
    return 0


def environment() -> Path:
    """Return the interpreter of the clients' environment, made if its requirements have changed."""
    python, stamp = ENVIRONMENT / "bin" / "python", Stamp("environment-bench-clients", [LOCKED])
    if not (stamp.fresh() and python.exists()):
        uv = find_uv()
        subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(ENVIRONMENT)], check=True)
        sync = [uv, "pip", "sync", "-q", "--python", str(python), "--require-hashes", str(LOCKED)]
        subprocess.run(sync, check=True)
        stamp.write()
    return python


def table(found: Dict[str, Any]) -> str:
    """Return microseconds of CPU and messages a second of every step, one client a column."""
    steps = list(next(iter(found.values())))
    rows: List[List[str]] = []
    for step in steps:
        cells = [f"{found[client][step]['cpu_us']:.1f} / {found[client][step]['a_second']:.0f}" for client in found]
        rows.append([step, *cells])
    return drawn_table(("CPU µs each / each second", *found), rows)


def _measured(python: Path, client: str, brokers: str) -> Dict[str, Any]:
    print(f"… {client}", flush=True)
    command = [str(python), "-m", "ops.bench.clients_each", client, brokers]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
