"""The real inbox keeps its promises through deaths, rival owners and writes that Redis lost."""

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kefu.worker.storage import conversations
from kefu.worker.storage.scripts import Script
from ops.local.servers import RedisServer, free_port
from tests.worker.crashing import AWAY, DIES_AFTER, DIES_BEFORE, OK, UNHEARD, System, Worker

MESSAGES = ["m1", "m2"]
ENDS = (DIES_BEFORE, DIES_AFTER)


class Forgetful(RedisServer):
    """A server that can act as a replica that took over without the last writes."""

    def command(self):
        return [*super().command(), "--enable-debug-command", "local"]


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    server = Forgetful(tmp_path_factory.mktemp("forgetful"), free_port())
    server.start()
    server.wait_ready(20)
    yield server
    server.stop()


class At:
    """A policy with one fault: at the n-th call that leaves the process."""

    def __init__(self, number, verdict):
        self.number, self.verdict, self.calls = number, verdict, 0

    def __call__(self, _):
        self.calls += 1
        return self.verdict if self.calls == self.number else OK

    @property
    def happened(self):
        return self.calls >= self.number


def run(scenario, *arguments):
    asyncio.run(scenario(*arguments))


async def one_after_another(agent, url, policies, poison=None):
    """Let workers with these policies work one after another, then one without faults; check the promises."""
    system = System(agent, url, [*MESSAGES, MESSAGES[0]], poison)
    try:
        for policy in policies:
            await Worker(system, policy).work()
        await system.recover()
        await system.check()
    finally:
        await system.store.close()


def every_point(agent, url, verdict, poison=None):
    """Apply the verdict at each call in turn; return the number of calls."""
    for number in itertools.count(1):
        policy = At(number, verdict)
        run(one_after_another, agent, url, [policy], poison)
        if not policy.happened:
            return number - 1


@pytest.mark.parametrize("poison", [None, "m1"], ids=["", "m1 always fails"])
@pytest.mark.parametrize("verdict", [DIES_BEFORE, DIES_AFTER, AWAY, UNHEARD])
def test_one_fault_at_any_call_breaks_no_promise(agent, forgetful, verdict, poison):
    assert every_point(agent, forgetful.url, verdict, poison) > 10


def test_death_of_a_worker_and_its_successor_breaks_no_promise(agent, forgetful):
    for first, second in itertools.product(range(1, 14), range(1, 14, 2)):
        ends = ENDS[(first + second) % 2], ENDS[first % 2]
        policies = [At(first, ends[0]), At(second, ends[1])]
        run(one_after_another, agent, forgetful.url, policies)


class Turnstile:
    """A policy that holds a worker at each call until the schedule gives the verdict."""

    def __init__(self):
        self.waiting = None
        self.reached = asyncio.Event()

    def __call__(self, _):
        self.waiting = asyncio.get_running_loop().create_future()
        self.reached.set()
        return self.waiting

    def let(self, verdict):
        self.reached.clear()
        waiting, self.waiting = self.waiting, None
        waiting.set_result(verdict)


class Owner:
    """A worker that a schedule drives."""

    def __init__(self, system):
        self.turnstile = Turnstile()
        self.worker = Worker(system, self.turnstile)
        self.task = asyncio.ensure_future(self.worker.work())

    async def halted(self):
        """Wait until the worker stands at its turnstile; return whether it still works."""
        reached = asyncio.ensure_future(self.turnstile.reached.wait())
        await asyncio.wait({reached, self.task}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        return not self.task.done()

    async def end(self):
        """Let the worker finish without faults."""
        while await self.halted():
            self.turnstile.let(OK)
        await self.task


async def two_owners(agent, url, order):
    """Run two workers that both believe they own the partition; `order` says whose call is next."""
    system = System(agent, url, ["m1"])
    try:
        owners = [Owner(system), Owner(system)]
        owners[0].worker.owner = False
        for n in order:
            if await owners[n].halted():
                owners[n].turnstile.let(OK)
        await asyncio.gather(*(owner.end() for owner in owners))
        await system.recover()
        await system.check()
    finally:
        await system.store.close()


def test_two_owners_in_any_order_break_no_promise(agent, forgetful):
    """The first five calls of each, in every order: marker, tracker, history, tracker again, write."""
    orders = [order for order in itertools.product((0, 1), repeat=10) if sum(order) == 5]
    assert len(orders) == 252
    for order in orders:
        run(two_owners, agent, forgetful.url, order)


CALLS = st.tuples(st.integers(0, 1), st.sampled_from([OK, OK, OK, *ENDS, AWAY, UNHEARD]))
EVENTS = st.sampled_from(["replicate", "fail over", "learn", "evict", "swap owners"])


class Schedule:
    """Two workers, their faults and the failovers of Redis, in the order that Hypothesis drew."""

    def __init__(self, agent, url):
        self.system = System(agent, url, [*MESSAGES, "m3", MESSAGES[0]])
        self.owners = [Owner(self.system), Owner(self.system)]
        self.owner = 0
        self.owners[1].worker.owner = False
        self.replica = {}
        self.lost = False

    async def step(self, what):
        if isinstance(what, tuple):
            await self._call(*what)
        elif what == "replicate":
            self.replica = await self.system.snapshot()
        elif what == "fail over":
            await self.system.fail_over(self.replica)
            self.lost = True
        elif what == "learn":
            self.owners[1 - self.owner].worker.lose_partition()
        elif what == "evict":
            self.owners[self.owner].worker.live.check_out("demo:alice")
        else:
            self._swap()

    async def _call(self, n, verdict):
        if await self.owners[n].halted():
            self.owners[n].turnstile.let(verdict)
        elif self.owners[n].worker.gate.dead:
            self._assign(n)

    def _swap(self):
        """Move the partition to the other worker, which begins at the committed offset."""
        other = 1 - self.owner
        self.owners[self.owner].worker.owner = False
        if self.owners[other].task.done():
            self.owner = other
            self._assign(other)

    def _assign(self, n):
        """Start a new process; Kafka takes its commits if it owns the partition."""
        self.owners[n] = Owner(self.system)
        self.owners[n].worker.owner = n == self.owner

    async def finish(self):
        for owner in self.owners:
            await owner.end()
        await self.system.recover()
        await self.system.check(lost_writes=self.lost)


async def as_drawn(agent, url, steps):
    schedule = Schedule(agent, url)
    try:
        for what in steps:
            await schedule.step(what)
        await schedule.finish()
    finally:
        await schedule.system.store.close()


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(st.one_of(CALLS, CALLS, CALLS, EVENTS), min_size=5, max_size=140))
def test_random_faults_of_two_workers_break_no_promise(agent, forgetful, steps):
    """The order of calls, faults, failovers of Redis and moves of the partition is random."""
    run(as_drawn, agent, forgetful.url, steps)


def test_lost_writes_are_mended_without_a_new_message(agent, forgetful):
    """Redis fails over after the last answer."""
    steps = [*[(0, OK)] * 40, "fail over", "replicate", (1, DIES_BEFORE)]
    run(as_drawn, agent, forgetful.url, steps)


def test_script_without_its_marker_check_is_detected(agent, forgetful, monkeypatch):
    """One owner has read the marker; the other runs the whole turn; then the first goes on."""
    broken = conversations.WRITE.text.replace("if marker then", "if false then")
    monkeypatch.setattr(conversations, "WRITE", Script(broken))
    with pytest.raises(AssertionError):
        run(two_owners, agent, forgetful.url, [1, *[0] * 8])


def test_worker_that_does_not_publish_is_detected(agent, forgetful, monkeypatch):
    async def publish_nothing(*_):
        return None

    monkeypatch.setattr("kefu.worker.inbox.publishing.Publisher.publish", publish_nothing)
    with pytest.raises(AssertionError):
        run(one_after_another, agent, forgetful.url, [])


def test_worker_that_does_not_mend_is_detected(agent, forgetful, monkeypatch):
    """The turn is published, Redis loses it, and a new worker takes the next message."""
    steps = [*[(0, OK)] * 9, "fail over", *[(0, DIES_BEFORE)] * 2]
    run(as_drawn, agent, forgetful.url, steps)

    async def no_doubt(*_):
        return False

    monkeypatch.setattr("kefu.worker.storage.mending.Mender.ensure", no_doubt)
    with pytest.raises(AssertionError):
        run(as_drawn, agent, forgetful.url, steps)
