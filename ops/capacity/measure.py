"""Writes `measured.json`: CPU per message from `make bench`, times and bytes from workers on this machine."""

import http.client
import json
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any, Dict, List

import redis

from kefu.events import TOPICS
from ops.bench import measure as bench
from ops.bench.results import Scenario, scenarios
from ops.bench.scripts import ORDERS, TALK
from ops.capacity import forecast
from ops.capacity.real import RealRun, Seen
from ops.local.servers import HOST

TIMES = 3  # starts measured; the quickest counts, since processes share two cores here and a pod has its own
RECORDS = 3  # Kafka records per message: user.query, dialogue.events, answer.generated
STREAMS, STREAMS_S, STREAMS_A_USER = 200, 20.0, 8
BYTES_OF = 300


def write(folder: Path, bench_path: Path, out: Path) -> None:
    """Measure and write the figures. Raises OSError without a result of `make bench`."""
    benched = json.loads(bench_path.read_text())
    figures = {**from_bench(benched), **from_workers(folder)}
    found = {
        "at": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": {name: benched["machine"][name] for name in ("cpu", "cores", "python", "commit")},
        "figures": {name: round(value, 3) for name, value in figures.items()},
    }
    out.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found["figures"], indent=1))


def from_bench(found: Dict[str, Any]) -> Dict[str, float]:
    """Return CPU in ms per message, latency and memory of the whole system, as the mean of small talk and orders.

    CPU is as measured, not normalised: a pod's core is assumed to be as fast as this machine's.
    """
    talk, orders = (_rounds(found, "gateway", script) for script in (TALK, ORDERS))
    clock = _rounds(found, "gateway", TALK, by_clock=True)
    cpu = {
        name: fmean(median(each["cpu_ms_a_turn"][name] for each in rounds) for rounds in (talk, orders))
        for name in ("worker", "gateway", "actions", "redis")
    }
    # The broker's CPU per record falls with the rate, so it comes from the run that only accepts messages.
    accept = _rounds(found, "accept", TALK)
    cpu["kafka"] = RECORDS * median(each["cpu_ms_a_turn"]["kafka"] for each in accept)
    memory = talk[-1]["rss_mb_after"]
    return {
        **{f"{name}_ms": value for name, value in cpu.items()},
        "base_p50_ms": median(each["latency_ms"]["50"] for each in clock),
        "base_p99_ms": median(each["latency_ms"]["99"] for each in clock),
        "worker_mb": memory["worker"],
        "gateway_mb": memory["gateway"],
        "actions_mb": memory["actions"],
    }


def _rounds(found: Dict[str, Any], driver: str, script: str, by_clock: bool = False) -> List[Scenario]:
    return scenarios(found["systems"], "kefu", driver, script, 5, by_clock)


def from_workers(folder: Path) -> Dict[str, float]:
    """Return times of a pod, and bytes that a message adds to Kafka and Redis."""
    real = RealRun(folder, forecast.PLACES, 0.05, forecast.PARTITIONS)
    try:
        real.start()
        before = _bytes(real, folder)
        real.worker_rate(BYTES_OF)
        after = _bytes(real, folder)
        joins = [real.join_s() for _ in range(TIMES)]
        commit_s = _commit_s(real)
        gateway = {
            "gateway_start_s": min(_gateway_start_s(real) for _ in range(TIMES)),
            "stream_ms_s": _stream_ms_s(real),
        }
    finally:
        real.stop()
    return {
        "start_s": min(each["start_s"] for each in joins),
        "rebalance_s": median(each["rebalance_s"] for each in joins),
        **gateway,
        "commit_s": commit_s,
        "concurrent_ms": 0.0,  # no limit: 64 places are more than a core can fill, unless the shop is slow
        **{name: (after[name] - before[name]) / BYTES_OF for name in after},
    }


def _bytes(real: RealRun, folder: Path) -> Dict[str, float]:
    logs = [path.stat().st_size for topic in TOPICS for path in (folder / "kafka" / "data").glob(f"{topic}-*/*.log")]
    used = redis.Redis.from_url(real.stack.redis.url).info("memory")["used_memory"]
    return {"kafka_bytes": float(sum(logs)), "redis_bytes": float(used)}


def _commit_s(real: RealRun) -> float:
    """Return the mean time for which the lag still counts an answered message."""
    seen, lags, began = Seen(), [], time.monotonic()
    while time.monotonic() - began < 10:
        real._say(seen, f"c{len(seen.sent) % 31}")
        real._hear(seen, 0.1)
        lags.append(sum(real.lag()) - (len(seen.sent) - len(seen.latencies_s)))
    rate = len(seen.sent) / (time.monotonic() - began)
    real._until(lambda: len(seen.latencies_s) == len(seen.sent), seen)
    return max(0.05, fmean(lags) / rate)


def _gateway_start_s(real: RealRun) -> float:
    began, name = time.monotonic(), real.stack.add_gateway()
    real.stack.wait_ready(name)
    return time.monotonic() - began


def _stream_ms_s(real: RealRun) -> float:
    """Return the CPU of a gateway for each idle stream, in ms per second."""
    pid = {"gateway": real.stack.pid("gateway")}
    idle = _cpu_s_of(pid)
    lines = []
    for number in range(STREAMS):
        if number % STREAMS_A_USER == 0:
            token = real.stack.token()
        line = http.client.HTTPConnection(HOST, real.stack.ports["KEFU_GATEWAY_PORT"], timeout=10)
        line.request("GET", "/v1/stream", headers={"Authorization": f"Bearer {token}"})
        if line.getresponse().status != http.client.OK:
            raise RuntimeError("the gateway opens no stream")
        lines.append(line)
    used = _cpu_s_of(pid)
    for line in lines:
        line.close()
    return max(0.001, (used - idle) * 1000 / STREAMS_S / STREAMS)


def _cpu_s_of(pid: Dict[str, int]) -> float:
    before = bench.sample(pid)
    time.sleep(STREAMS_S)
    return bench.sample(pid).since(before)["cpu_s"]["gateway"]
