"""What a worker tells of itself before it has done anything."""

import urllib.request

import pytest

from kefu import metrics
from ops.local.servers import HOST
from tests.worker.conftest import MODEL
from tests.worker.serving import ServedWorker


@pytest.mark.timeout(600)  # above READY_S
def test_a_fresh_worker_tells_zeros_so_that_its_first_failure_is_an_increase(brokers, valkey, tmp_path):
    worker = ServedWorker(brokers, valkey.url, MODEL, tmp_path / "log")
    try:
        worker.wait_ready()
        with urllib.request.urlopen(f"http://{HOST}:{worker.health}/metrics", timeout=60) as answer:
            told = answer.read().decode().splitlines()
    finally:
        worker.stop()
    assert 'kefu_turns_total{outcome="dead_letter"} 0.0' in told
    for name, outcomes in (("turns", metrics.TURN_OUTCOMES), ("lent_messages", metrics.LENT_OUTCOMES)):
        for outcome in outcomes:
            assert any(line.startswith(f'kefu_{name}_total{{outcome="{outcome}"}} ') for line in told)
