"""`python -m ops.bench.backlog`: measures the processes' memory while a million messages wait in Kafka.

The inbox is filled far faster than the worker answers. Memory is sampled before that, then for some minutes while the
worker processes the backlog. The messages are the same five turns of a few thousand customers, so that the worker's
caches are full before, and only the backlog is new. Writes `backlog.json`; ends with 1 if a process's memory grew by
more than GROWTH, or if the worker answered nothing.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List

from kefu.codec import encode
from kefu.events import USER_QUERY, UserSaid, conversation_key
from kefu.settings import KafkaSettings
from kefu.tools.groups import lag
from ops.bench import measure, scenarios
from ops.bench.customers import TENANT, Job
from ops.bench.kefu import KefuSystem
from ops.bench.load_kafka import TIMEOUT_S, producer
from ops.bench.scenarios import TALK_FROM, Numbers
from ops.bench.scripts import TALK, text
from ops.local.servers import ROOT

GROWTH = 0.2  # the largest allowed growth of a process's memory, as a share
CUSTOMERS = 2000  # the messages of the backlog are those of this many customers, in turn
LIVE_TURNS = 1000  # limits the turns that the worker keeps in memory, so that they are at the limit before the backlog
BEFORE_S = 30.0  # how long the system is under load before the backlog
SAMPLE_S = 2.0  # between two samples of the memory
PROCESSES = ("worker", "gateway", "actions")


def main(arguments: List[str]) -> int:
    """Fill the inbox, watch the memory, print and write the results; return the exit code."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kefu-backlog-") as folder:
        system = KefuSystem(Path(folder), {"KEFU_LIVE_TURNS": str(LIVE_TURNS)})
        try:
            system.start()
            found = _watch(system, options.messages, options.seconds)
        finally:
            system.stop()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "backlog.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "samples"}), flush=True)
    return int(max(found["growth"].values()) > GROWTH or found["answered"] == 0)


def _watch(system: KefuSystem, messages: int, seconds: float) -> Dict[str, Any]:
    numbers = Numbers()
    scenarios.warm_up(system, numbers, "kafka")
    first = numbers.take(TALK, CUSTOMERS)
    before = scenarios.run(system, Job("kafka", 64, 50, CUSTOMERS, first, BEFORE_S, TALK, None, **system.jobs))
    kafka = KafkaSettings.from_env(system.stack.settings)
    _fill(kafka.brokers, messages)
    began, waiting, samples = time.monotonic(), lag(kafka), []
    while time.monotonic() - began < seconds:
        time.sleep(SAMPLE_S)
        samples.append(measure.sample(system.pids()).rss_mb)
    left = lag(kafka)
    most = {name: max(each[name] for each in samples) for name in PROCESSES}
    usual = {name: before["rss_mb_after"][name] for name in PROCESSES}
    return {
        "messages": messages,
        "waiting": waiting,
        "waiting_in_the_end": left,
        "answered": waiting - left,
        "rss_mb_before": usual,
        "rss_mb_most": most,
        "growth": {name: round(most[name] / usual[name] - 1, 4) for name in PROCESSES},
        "samples": samples,
    }


def _fill(brokers: str, messages: int) -> None:
    """Send messages to Kafka as the gateway does, each customer's messages in order."""
    inbox = producer(brokers)
    for number in range(messages):
        customer, turn = number % CUSTOMERS, number // CUSTOMERS
        user = f"backlog-{customer}"
        said = UserSaid(TENANT, user, f"{user}-{turn}", text=text(TALK, TALK_FROM + customer, turn), identified=True)
        while True:
            try:
                inbox.produce(USER_QUERY, encode(said), conversation_key(TENANT, user).encode())
                break
            except BufferError:
                inbox.poll(0.1)
        inbox.poll(0)
    if inbox.flush(TIMEOUT_S):
        raise RuntimeError("Kafka didn't take the messages")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.backlog", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long it is watched")
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
