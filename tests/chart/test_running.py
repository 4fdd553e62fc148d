"""The chart's manifests for a laptop are run: no message is lost in an upgrade, in scaling and in a crash."""

import re
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from tests.chart.customers import Customer
from tests.chart.rendering import ROOT
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)  # the first test also waits for the cluster to start


def test_laptops_manifests_answer_a_question_about_an_order(cluster):
    """The message passes gateway, Kafka, worker, action server and shop, which run as processes."""
    customer = Customer(cluster.url("kefu-gateway", 8080), user="alice")
    customer.open()
    replies = customer.say("我的订单20260001到哪了")
    assert "运单号" in replies[0]["text"]  # the tracking number comes from the shop through the action server
    assert cluster.pods("kefu-worker")[0].directory.joinpath("volumes", "models", "kefu.tar.gz").is_file()


def test_upgrade_from_the_last_released_chart_loses_no_message(cluster, upgrade, crowd):
    """Pods are replaced one after the other while customers talk; each component always has a ready one."""
    before = cluster.pods("kefu-gateway") + cluster.pods("kefu-worker") + cluster.pods("kefu-actions")
    cluster.apply(upgrade)
    cluster.wait_settled()
    for pod in before:
        pod.ended.wait(60)
        assert pod.ended.is_set() and not pod.killed, pod.log()
    for name in ("kefu-gateway", "kefu-worker", "kefu-actions"):
        assert _always_one_ready(cluster, name), name
    assert cluster.pods("kefu-prepull")[0].ready  # a program of each image was started on the node


def test_scaling_workers_and_gateways_loses_no_message(cluster, crowd):
    """The second worker and gateway get work; when they leave, the first ones take it over."""
    cluster.scale("kefu-worker", 2)
    cluster.scale("kefu-gateway", 2)
    cluster.wait_settled()
    until(lambda: _new_guest_is_served(cluster) and _all_took_messages(cluster))
    leaving = cluster.pods("kefu-worker")[-1:] + cluster.pods("kefu-gateway")[-1:]
    cluster.scale("kefu-worker", 1)
    cluster.scale("kefu-gateway", 1)
    cluster.wait_settled()
    assert all(pod.ended.wait(60) and not pod.killed for pod in leaving), [pod.log() for pod in leaving]


def test_killed_worker_is_restarted_and_loses_no_message(cluster, crowd):
    pod = cluster.pods("kefu-worker")[0]
    restarts = pod.restarts
    pod.kill()
    until(lambda: pod.restarts > restarts)
    cluster.wait_settled()


def test_running_pods_export_answer_times_and_inbox_lag(cluster):
    worker, gateway = cluster.pods("kefu-worker")[0], cluster.pods("kefu-gateway")[0]
    customer = Customer(cluster.url("kefu-gateway", 8080))
    customer.open()
    customer.say("你好")
    until(lambda: _metric(worker, "kefu_answer_seconds_count") > 0)  # counted after the answer is sent
    assert _metric(gateway, "kefu_accept_seconds_count") > 0
    until(lambda: _metric(worker, "kefu_inbox_lag_messages") == 0)


def test_no_pod_used_90_percent_of_its_memory_limit(cluster):
    for pod in cluster.pods():
        limit = pod.spec["containers"][0]["resources"]["limits"]["memory"]
        number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", limit).groups()
        assert pod.peak_bytes < 0.9 * int(number) * {"Mi": 2**20, "Gi": 2**30}[unit], pod.name


def test_contained_process_can_write_to_its_directories_only(tmp_path):
    """`contained.py` gives a process the read-only root file system of a container."""
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
    """Have a new guest answered. Each guest has a random partition, so several guests reach all workers."""
    guest = Customer(cluster.url("kefu-gateway", 8080))
    guest.open()
    return guest.say("你好")


def _all_took_messages(cluster):
    return all(_metric(pod, "kefu_poll_messages_sum") > 0 for pod in cluster.pods("kefu-worker"))


def _always_one_ready(cluster, name):
    """Return whether at each moment since the first pod was ready, some pod of the owner was."""
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
