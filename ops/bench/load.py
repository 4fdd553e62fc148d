"""The load generator, which is a process: `python -m ops.bench.load`, with a `Job` as JSON on its standard input.

It prints `ready` when it is connected, starts at the next line of input, and prints the results as one line of JSON.
"""

import json
import sys

from ops.bench import scripts
from ops.bench.customers import Job, Load, Transport
from ops.bench.load_http import HttpTransport
from ops.bench.load_kafka import KafkaTransport


def main() -> None:
    """Do the job that is read from standard input."""
    job = Job(**json.loads(sys.stdin.readline()))
    scripts.phrases()
    transport: Transport = KafkaTransport(job) if job.driver == "kafka" else HttpTransport(job)
    load = Load(job, transport)
    transport.connect(load)
    print("ready", flush=True)
    sys.stdin.readline()
    transport.run(load)
    print(json.dumps(load.results()), flush=True)
    sys.stdin.readline()  # wait: `scenarios` reads this process's memory and CPU time before it ends


if __name__ == "__main__":
    main()
