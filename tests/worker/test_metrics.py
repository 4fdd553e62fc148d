"""The metrics of a worker before its first message."""

import urllib.request

import pytest

from kefu import metrics
from ops.local.servers import HOST
from tests.worker.conftest import MODEL
from tests.worker.serving import ServedWorker


@pytest.mark.timeout(600)  # above READY_S
def test_counters_of_a_new_worker_start_at_zero(brokers, valkey, tmp_path):
    """`increase()` does not see a series' first sample, so it would miss the first failure."""
    worker = ServedWorker(brokers, valkey.url, MODEL, tmp_path / "log")
    try:
        worker.wait_ready()
        with urllib.request.urlopen(f"http://{HOST}:{worker.health}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
    finally:
        worker.stop()
    assert 'kefu_turns_total{outcome="dead_letter"} 0.0' in lines
    for name, outcomes in (("turns", metrics.TURN_OUTCOMES), ("lent_messages", metrics.LENT_OUTCOMES)):
        for outcome in outcomes:
            assert any(line.startswith(f'kefu_{name}_total{{outcome="{outcome}"}} ') for line in lines)
