"""The fault injector waits for ready targets, and injects every fault of its plan."""

from types import SimpleNamespace

import pytest

from ops.chaos import faults, plan
from ops.chaos.faults import FaultInjector, NothingCanBeKilled
from ops.chaos.plan import Fault


class Stack:
    """Returns the given values of `ready` in turn, then the last one for ever."""

    def __init__(self, *ready):
        self.answers = list(ready)
        self.killed = []

    def ready(self, name):
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def kill(self, name, restart_after_s):
        self.killed.append(name)


def injector(stack, kind):
    nothing = dict.fromkeys(("brokers_whole", "redis_whole"), bool)
    system = SimpleNamespace(stack=stack, workers=["worker"], gateways=["gateway"], **nothing)
    return FaultInjector(system, [Fault(kind, 7, 0.0, 0.0)], lambda _: None)


@pytest.mark.parametrize(
    ("kind", "name"), [(plan.WORKER, "worker"), (plan.GATEWAY, "gateway")], ids=["worker", "gateway"]
)
def test_process_that_stops_being_ready_is_killed_later(kind, name):
    """The process is ready at the first look and not at the second: the injector waits until it is ready again."""
    stack = Stack(True, False, True)
    faults = injector(stack, kind)
    faults.run()
    assert stack.killed == [name]
    assert faults.counts() == {kind: 1}


def test_process_that_is_never_ready_ends_the_chaos_run(monkeypatch):
    """The error names the kind of fault."""
    monkeypatch.setattr(faults, "STUCK_S", 0.3)
    stack = Stack(*[True, False] * 20)
    with pytest.raises(NothingCanBeKilled, match=plan.WORKER):
        injector(stack, plan.WORKER).run()
    assert stack.killed == []
