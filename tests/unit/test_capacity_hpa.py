"""The autoscaler's algorithm, by cases worked out from Kubernetes' and KEDA's source."""

import pytest

from ops.capacity.hpa import (
    PERCENT,
    PODS,
    Autoscaler,
    PodUse,
    Policy,
    Rules,
    Scaling,
    cpu_utilization,
    external_per_pod,
    external_value,
    keda_lag,
)


def over_time(scaler, current, proposals, every_s=15):
    """Return the number of pods after each decision."""
    numbers = []
    for n, proposal in enumerate(proposals):
        current = scaler.decide(n * every_s, current, [proposal])
        numbers.append(current)
    return numbers


def test_scaling_up_doubles_at_each_sync():
    """The autoscaler decides every 15 s."""
    assert over_time(Autoscaler(Scaling(1, 100)), 3, [64] * 6) == [6, 12, 24, 48, 64, 64]


def test_autoscaler_keeps_pods_within_the_limits():
    assert over_time(Autoscaler(Scaling(2, 8)), 3, [64] * 4) == [6, 8, 8, 8]
    assert Autoscaler(Scaling(2, 8)).decide(0, 1, [50]) == 2
    assert Autoscaler(Scaling(2, 8)).decide(0, 9, [50]) == 8


def test_scaling_down_waits_5_minutes_then_removes_a_tenth():
    numbers = over_time(Autoscaler(Scaling(1, 200)), 100, [100] + [10] * 32)
    assert numbers[:20] == [100] * 20  # the proposal of 100 counts for 5 minutes: 20 decisions
    assert numbers[20:24] == [90, 90, 90, 90]
    assert numbers[24] == 81


def test_one_dip_within_the_window_removes_no_pod():
    assert over_time(Autoscaler(Scaling(1, 200)), 50, [50] * 10 + [5] + [50] * 10) == [50] * 21


def test_window_for_scaling_up_takes_its_lowest_value():
    """A proposal for more pods must hold for 45 s."""
    rules = Rules((Policy(PERCENT, 100, 15),), window_s=45)
    assert over_time(Autoscaler(Scaling(1, 100, up=rules)), 4, [4, 8, 8, 8, 8]) == [4, 4, 4, 8, 8]


def test_greatest_change_of_several_policies_counts():
    """With `select` Min the smallest change counts, and Disabled forbids scaling."""
    policies = (Policy(PERCENT, 100, 60), Policy(PODS, 4, 60))
    assert over_time(Autoscaler(Scaling(1, 100, up=Rules(policies))), 2, [50]) == [6]
    assert over_time(Autoscaler(Scaling(1, 100, up=Rules(policies, select="Min"))), 2, [50]) == [4]
    assert over_time(Autoscaler(Scaling(1, 100, up=Rules(policies, select="Disabled"))), 2, [50]) == [2]


def test_policy_counts_the_pods_added_within_its_period():
    rules = Rules((Policy(PODS, 3, 60),))
    assert over_time(Autoscaler(Scaling(1, 100, up=rules)), 1, [50] * 9) == [4, 4, 4, 4, 7, 7, 7, 7, 10]


def test_highest_proposal_of_several_metrics_counts():
    assert Autoscaler(Scaling(1, 100)).decide(0, 10, [3, 14, 9]) == 14


@pytest.mark.parametrize(
    "total, current, wanted",
    [(300, 10, 10), (329, 10, 10), (331, 10, 12), (271, 10, 10), (260, 10, 9), (0, 10, 0), (31, 0, 2)],
)
def test_external_metric_per_pod_has_a_tolerance(total, current, wanted):
    """A metric within 10 % of its target changes nothing."""
    assert external_per_pod(total, 30, current) == wanted


def test_external_value_multiplies_the_ready_pods():
    assert external_value(90.0, 30.0, current=4, ready=4) == 12
    assert external_value(90.0, 30.0, current=8, ready=4) == 12
    assert external_value(32.0, 30.0, current=8, ready=4) == 8
    assert external_value(0.0, 30.0, current=8, ready=8) == 0


def test_keda_lag_asks_for_one_pod_per_partition_at_most():
    assert keda_lag([10] * 8, 30) == 80
    assert keda_lag([1000] * 8, 30) == 240
    assert keda_lag([0] * 7 + [5000], 30) == 240
    assert keda_lag([0] * 7 + [5000], 30, partitions_with_lag_only=True) == 30


def pods(ready=0, cores=0.0, starting=0, unseen=0):
    return [PodUse(True, 900, cores)] * ready + [PodUse(False, 10, 0.9)] * starting + [PodUse(True, 900, None)] * unseen


def test_cpu_asks_for_the_pods_that_reach_its_target():
    assert cpu_utilization(pods(4, 0.9), 1.0, 60, 4) == 6
    assert cpu_utilization(pods(4, 0.65), 1.0, 60, 4) == 4
    assert cpu_utilization(pods(10, 0.12), 1.0, 60, 10) == 2


def test_starting_pods_count_as_idle_when_scaling_up():
    assert cpu_utilization(pods(4, 0.9, starting=4), 1.0, 60, 8) == 8  # 6 would scale down: then nothing changes
    assert cpu_utilization(pods(4, 0.9, starting=1), 1.0, 60, 5) == 6
    assert cpu_utilization(pods(4, 0.3, starting=4), 1.0, 60, 8) == 2


def test_pods_without_a_cpu_figure_prevent_scaling():
    assert cpu_utilization(pods(4, 0.3, unseen=4), 1.0, 60, 8) == 8  # they count as fully used
    assert cpu_utilization(pods(unseen=3), 1.0, 60, 3) == 3
