"""What torments the system waits for somebody whom it can be done to, and then does all of its plan."""

from types import SimpleNamespace

import pytest

from ops.chaos import faults, plan
from ops.chaos.faults import NothingCanBeKilled, Tormentor
from ops.chaos.plan import Fault


class Stack:
    """Says in turn what it is given of who is ready, and the last of it for ever."""

    def __init__(self, *ready):
        self.said = list(ready)
        self.killed = []

    def ready(self, name):
        return self.said.pop(0) if len(self.said) > 1 else self.said[0]

    def kill(self, name, restart_after_s):
        self.killed.append(name)


def tormentor(stack, kind):
    nothing = dict.fromkeys(("brokers_whole", "redis_whole"), bool)
    system = SimpleNamespace(stack=stack, workers=["worker"], gateways=["gateway"], **nothing)
    return Tormentor(system, [Fault(kind, 7, 0.0, 0.0)], lambda _: None)


@pytest.mark.parametrize(
    ("kind", "name"), [(plan.WORKER, "worker"), (plan.GATEWAY, "gateway")], ids=["worker", "gateway"]
)
def test_who_is_well_no_more_when_it_is_to_be_done_is_killed_later(kind, name):
    stack = Stack(True, False, True)
    torment = tormentor(stack, kind)
    torment.run()
    assert stack.killed == [name]
    assert torment.counts() == {kind: 1}


def test_who_is_never_well_when_it_is_to_be_done_is_named_in_the_end(monkeypatch):
    monkeypatch.setattr(faults, "STUCK_S", 0.3)
    stack = Stack(*[True, False] * 20)
    with pytest.raises(NothingCanBeKilled, match=plan.WORKER):
        tormentor(stack, plan.WORKER).run()
    assert stack.killed == []
