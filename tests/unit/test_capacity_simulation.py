"""The simulator conserves messages, and shows the effects of load, starts, partitions and prices."""

from dataclasses import replace

import pytest

from ops.capacity import inputs
from ops.capacity.cost import bill
from ops.capacity.curves import SURGE, Day, Promotion, Steps, for_users, messages
from ops.capacity.group import Group
from ops.capacity.hpa import Scaling
from ops.capacity.inputs import Kind, production
from ops.capacity.pods import Pod
from ops.capacity.simulate import Simulation, worker_rate

COSTS = replace(inputs.measured(), worker_ms=2.0, gateway_ms=0.5, start_s=5.0, rebalance_s=2.0, concurrent_ms=0.0)
MANY = Kind(Scaling(low=60, high=60))
CLAIM = 1000.0  # messages a second that values/production.yaml is sized for; in the surge at night SURGE times as many
NIGHT = Promotion("night", 3600.0, 250.0, begins_s=600.0, half_life_s=300.0)


def simulate(curve=NIGHT, costs=COSTS, step_s=2.0, fewest=2, **changes):
    partitions = changes.setdefault("partitions", 32)
    worker = Kind(Scaling(low=fewest, high=partitions))
    others = {"gateway": MANY, "actions": MANY, "lag_threshold": 900, "lag_s": 0.0}  # 2 s of a worker's work
    shape = production(**{"worker": worker, **others, **changes})
    return Simulation(curve, costs, shape, step_s=step_s).run()


@pytest.fixture(scope="module")
def night():
    return simulate()


def test_simulated_messages_are_all_answered_or_waiting(night):
    assert night.answered + night.intervals[-1].waiting == pytest.approx(night.came, rel=0.01)


def test_surge_adds_pods_within_minutes_and_removes_them(night):
    before, peak, after = (night.intervals[n].workers for n in (9, 14, 59))
    assert peak >= SURGE * 0.8 * before
    assert after < peak / 2
    assert night.most_pods["workers"] <= 32


def test_slower_pod_starts_let_more_messages_wait():
    waiting = [simulate(costs=replace(COSTS, start_s=start)).most_waiting for start in (5.0, 60.0)]
    assert waiting[1] > 1.3 * waiting[0]


def test_missing_nodes_let_more_messages_wait(night):
    """The nodes have room for three more pods only."""
    assert simulate(spare_pods=3).most_waiting > 1.3 * night.most_waiting


def test_workers_wait_for_action_servers_that_are_full():
    few = simulate(actions=Kind(Scaling(low=4, high=4), cores=0.5))
    rate = 4 * 0.5 * 0.9 / (COSTS.actions_ms / 1000)
    assert few.actions_full_s > 600 and few.most_waiting > 100_000
    assert max(each.answered / each.seconds for each in few.intervals) == pytest.approx(rate, rel=0.02)


def test_slow_back_end_adds_workers_by_seconds_of_lag():
    """Turns that wait for a slow back end use little CPU, so CPU alone adds no worker."""
    slow, steady = replace(COSTS, concurrent_ms=4000.0), Steps("steady", 900.0, 60.0, rates=(60.0,))
    by_cpu, by_seconds = (simulate(steady, slow, lag_threshold=0, lag_s=lag_s) for lag_s in (0.0, 30.0))
    assert by_cpu.most_pods["workers"] == 2 and by_cpu.most_waiting > 20_000
    assert by_seconds.most_pods["workers"] >= 4 and by_seconds.most_waiting < by_cpu.most_waiting / 4


def test_late_event_loops_add_gateways_despite_few_connections():
    busy, costs = Kind(Scaling(low=1, high=50), cpu_percent=100), replace(COSTS, stream_ms_s=0.0)
    few = {"gateway": busy, "connections_a_gateway": 1_000_000}
    late, patient = (simulate(costs=costs, late_ms=late_ms, **few) for late_ms in (100.0, 1e9))
    assert late.most_pods["gateways"] > patient.most_pods["gateways"]


def test_production_values_carry_the_claimed_surge():
    """values/production.yaml is sized for CLAIM messages a second, and SURGE times as many at night."""
    stroke = Promotion("claim", 1200.0, CLAIM, begins_s=300.0, holds_s=900.0)
    night = Simulation(stroke, inputs.measured(), production()).run()
    peak = [each for each in night.intervals if each.at_s >= stroke.begins_s + 360.0]
    assert min(each.came / each.seconds for each in peak) == pytest.approx(SURGE * CLAIM, rel=0.01)
    assert max(each.waiting for each in peak) < SURGE * CLAIM  # less than a second's messages wait: workers keep up
    assert night.actions_full_s < 120  # only until enough action servers have started


def test_partitions_limit_the_workers(night):
    few = simulate(partitions=4)
    assert few.most_pods["workers"] == 4
    assert few.longest_wait_ms > 5 * night.longest_wait_ms


def test_cheap_turns_need_a_higher_lag_threshold():
    """With a threshold of 30 messages, workers with cheap turns run in more pods than they need."""
    steady, cheap = Steps("steady", 900.0, 4000.0, rates=(4000.0,)), replace(COSTS, worker_ms=0.5)
    eager, calm = (simulate(steady, cheap, **lag) for lag in ({"lag_threshold": 30}, {"lag_threshold": 3600}))
    assert eager.in_time_share > 0.99 and calm.in_time_share > 0.99
    assert eager.pod_hours["workers"] > 1.3 * calm.pod_hours["workers"]


def test_a_worker_is_limited_by_its_cpu_or_by_its_places():
    """Places are the turns that a worker runs at the same time."""
    shape = production()
    assert worker_rate(COSTS, shape) == pytest.approx(450.0)
    assert worker_rate(replace(COSTS, concurrent_ms=1000.0), shape) == 64.0


def test_rebalance_levels_partitions_with_the_fewest_moves():
    group, members = Group(16, 1.0, 1e6), [Pod(n, 0, 0) for n in range(4)]
    group.join(0.0, members[:3], first=True)
    before = {number: pod for pod in members for number in pod.partitions}
    group.join(10.0, members)
    assert sorted(len(pod.partitions) for pod in members) == [4, 4, 4, 4]
    moved = [n for pod in members for n in pod.partitions if before[n] is not pod]
    assert len(moved) == group.moved == 4
    assert all(group.partitions[n].blocked_until == 11.0 for n in moved)


def test_simulated_worker_answers_the_oldest_messages_first():
    group, pod = Group(1, 1.0, 1e6), Pod(0, 0, 0)
    group.join(0.0, [pod], first=True)
    group.partitions[0].put(1.0, 5.0)
    group.partitions[0].put(2.0, 5.0)
    assert group.serve(3.0, pod, 6.0) == [(1.0, 5.0), (2.0, 1.0)]
    assert group.waiting == pytest.approx(4.0)


def test_load_curves_have_the_declared_volume_and_peak():
    day = Day("day", 86_400.0, for_users(1_000_000))
    assert messages(day) == pytest.approx(1_000_000 * 0.2 * 5, rel=0.01)
    assert max(NIGHT(at) for at in range(3600)) == SURGE * 250
    assert NIGHT.connections(0.0) == pytest.approx(250 / 5 * 150)
    assert NIGHT.connections(NIGHT.begins_s + 30) < 0.2 * NIGHT.connections(NIGHT.begins_s + 300)


def test_bill_grows_with_prices_and_is_divided_by_dialogues(night):
    shape, prices = production(), inputs.prices()
    once = bill(night, NIGHT, COSTS, shape, prices)
    twice = bill(night, NIGHT, COSTS, shape, replace(prices, vcpu_hour=2 * prices.vcpu_hour))
    assert once.total < twice.total < 2 * once.total
    assert once.per_dialogue == pytest.approx(once.total / (night.came / NIGHT.turns))


def test_price_file_with_missing_or_unknown_figures_is_refused(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text('{"yuan": {"vcpu_hour": 0.1, "gpu_hour": 3}}')
    with pytest.raises(ValueError, match=r"gb_hour.*gpu_hour"):
        inputs.prices(path)


def test_unready_and_least_busy_pods_are_removed_first():
    kind = Kind(Scaling(low=1, high=4))
    simulation = Simulation(NIGHT, COSTS, replace(production(), worker=kind), first=4)
    pool = simulation.workers
    for pod, busy in zip(pool.pods, (3.0, 1.0, 2.0, 4.0), strict=True):
        pod.busy_s = busy
    pool.pods[3].ready_at = 1e9
    assert [pod.number for pod in pool._scale(10.0, 2)] == [3, 1]
