"""The chart's manifests for a laptop are run: an upgrade, more pods and fewer, a crash, and nothing is lost."""

import re
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from tests.chart.customers import Customer
from tests.chart.rendering import ROOT
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)  # who is first waits for the cluster, too


def test_a_conversation_goes_through(cluster):
    customer = Customer(cluster.url("kefu-gateway", 8080), user="alice")
    customer.open()
    replies = customer.say("我的订单20260001到哪了")
    assert "运单号" in replies[0]["text"]  # from the shop, by way of the action server
    assert cluster.pods("kefu-worker")[0].directory.joinpath("volumes", "models", "kefu.tar.gz").is_file()


def test_an_upgrade_from_the_last_released_chart_loses_nothing(cluster, upgrade, crowd):
    before = cluster.pods("kefu-gateway") + cluster.pods("kefu-worker") + cluster.pods("kefu-actions")
    cluster.apply(upgrade)
    cluster.wait_settled()
    for pod in before:
        pod.ended.wait(60)
        assert pod.ended.is_set() and not pod.killed, pod.log()
    for name in ("kefu-gateway", "kefu-worker", "kefu-actions"):
        assert _always_one_ready(cluster, name), name
    assert cluster.pods("kefu-prepull")[0].ready  # each image's program was started on the node


def test_more_pods_share_the_work_and_fewer_take_it_over(cluster, crowd):
    cluster.scale("kefu-worker", 2)
    cluster.scale("kefu-gateway", 2)
    cluster.wait_settled()
    until(lambda: _new_guest_is_served(cluster) and _all_took_messages(cluster))
    leaving = cluster.pods("kefu-worker")[-1:] + cluster.pods("kefu-gateway")[-1:]
    cluster.scale("kefu-worker", 1)
    cluster.scale("kefu-gateway", 1)
    cluster.wait_settled()
    assert all(pod.ended.wait(60) and not pod.killed for pod in leaving), [pod.log() for pod in leaving]


def test_a_worker_that_dies_is_started_again_and_goes_on(cluster, crowd):
    pod = cluster.pods("kefu-worker")[0]
    restarts = pod.restarts
    pod.kill()
    until(lambda: pod.restarts > restarts)
    cluster.wait_settled()


def test_what_answers_took_and_what_waits_is_told(cluster):
    worker, gateway = cluster.pods("kefu-worker")[0], cluster.pods("kefu-gateway")[0]
    customer = Customer(cluster.url("kefu-gateway", 8080))
    customer.open()
    customer.say("你好")
    until(lambda: _metric(worker, "kefu_answer_seconds_count") > 0)  # counted behind the answer
    assert _metric(gateway, "kefu_accept_seconds_count") > 0
    until(lambda: _metric(worker, "kefu_inbox_lag_messages") == 0)


def test_no_pod_came_near_its_memory_limit(cluster):
    for pod in cluster.pods():
        limit = pod.spec["containers"][0]["resources"]["limits"]["memory"]
        number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", limit).groups()
        assert pod.peak_bytes < 0.9 * int(number) * {"Mi": 2**20, "Gi": 2**30}[unit], pod.name


def test_a_container_can_write_to_its_volumes_alone(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    launcher = ROOT / "tests" / "chart" / "cluster" / "contained.py"
    code = f"open({str(inside / 'a')!r},'w').close(); open({str(outside / 'a')!r},'w').close()"
    command = [sys.executable, str(launcher), str(inside), "--", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "no Landlock" in done.stderr:
        pytest.skip("this kernel has no Landlock")
    assert "PermissionError" in done.stderr
    assert (inside / "a").exists() and not (outside / "a").exists()


def _new_guest_is_served(cluster):
    """Each guest's conversation is on a partition by chance: it takes some until every worker has one."""
    guest = Customer(cluster.url("kefu-gateway", 8080))
    guest.open()
    return guest.say("你好")


def _all_took_messages(cluster):
    return all(_metric(pod, "kefu_poll_messages_sum") > 0 for pod in cluster.pods("kefu-worker"))


def _always_one_ready(cluster, name):
    """Whether some pod of the owner was ready at each moment since the first was."""
    pods = [pod for pod in [*cluster.ended, *cluster.pods(name)] if pod.identity.name.startswith(name)]
    changes = sorted((when, 1 if ready else -1) for pod in pods for when, ready in pod.readiness)
    count, counts = 0, []
    for (when, change), (later, _) in pairwise([*changes, (time.monotonic(), 0)]):
        count += change
        counts.append((count, later - when))
    return all(number > 0 for number, lasted in counts if lasted > 0)


def _metric(pod, name):
    import urllib.request

    probe = pod.spec["containers"][0]["readinessProbe"]["httpGet"]
    url = f"http://{pod.address}:{pod.identity.ports[probe['port']]}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[ {{]", line))
