"""The load generator, a process of its own: `python -m ops.bench.load`, a job as JSON on its input.

It says `ready` once it is connected, starts at a line of input, and ends with the results as one
line of JSON.
"""

import json
import sys

from ops.bench import scripts
from ops.bench.customers import Job, Load, Transport
from ops.bench.load_http import HttpTransport
from ops.bench.load_kafka import KafkaTransport


def main() -> None:
    """Do the job on the input."""
    job = Job(**json.loads(sys.stdin.readline()))
    scripts.phrases()
    transport: Transport = KafkaTransport(job) if job.driver == "kafka" else HttpTransport(job)
    load = Load(job, transport)
    transport.connect(load)
    print("ready", flush=True)
    sys.stdin.readline()
    transport.run(load)
    print(json.dumps(load.results()), flush=True)
    sys.stdin.readline()  # its memory and CPU time are read first


if __name__ == "__main__":
    main()
