"""Injects the faults of a plan into the running system, one after another. A fault waits until its target is ready.

In: a `System` and its plan. Out: the injected faults with their times, as `Trouble`s.
"""

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

from ops.chaos import plan
from ops.chaos.doors import CUT, HELD
from ops.chaos.plan import Fault
from ops.chaos.system import ACTIONS, MAX_WORKERS, REDIS, REDIS_OF_GATEWAY, System

STUCK_S = 240.0  # longest wait for a ready target; beyond it the run fails, because some part did not recover
DOORS = {plan.CUT_REDIS: REDIS, plan.CUT_GATEWAY: REDIS_OF_GATEWAY, plan.CUT_ACTIONS: ACTIONS}


@dataclass
class Trouble:
    """An injected fault. It began at `since_ms`; its target was ready again at `until_ms` (None: not yet), in ms."""

    kind: str
    target: str
    since_ms: int
    until_ms: Optional[int] = None

    def show(self) -> Dict[str, Any]:
        """Return the fault as JSON for the report."""
        return {"kind": self.kind, "target": self.target, "since_ms": self.since_ms, "until_ms": self.until_ms}


class NothingCanBeKilled(RuntimeError):
    """No target of the remaining faults was ready for STUCK_S: some part did not recover."""


class _NoReadyTarget(Exception):
    """No target of the fault is ready any more."""


class FaultInjector:
    """Injects the faults of a plan. Use it in the thread that started the system."""

    def __init__(self, system: System, faults: List[Fault], tell: Callable[[str], None]) -> None:
        self.troubles: List[Trouble] = []
        self._system = system
        self._pending = list(faults)
        self._tell = tell
        self._frozen: Dict[str, float] = {}
        self._leaving: List[threading.Thread] = []
        self._recovering: List[Tuple[Trouble, Callable[[], bool]]] = []
        self._can: Dict[str, Callable[[], bool]] = {
            plan.WORKER: lambda: bool(self._ready(self._workers())),
            plan.FREEZE: self._can_freeze,
            plan.REBALANCE: self._can_rebalance,
            plan.GATEWAY: lambda: bool(self._ready(system.gateways)),
            plan.ACTIONS_KILL: lambda: system.stack.ready("actions"),
            plan.BROKER: system.brokers_whole,
            plan.MASTER: lambda: self._calm(REDIS) and system.redis_whole(),
            plan.ISOLATE: lambda: self._calm(REDIS) and system.redis_whole(),
            **{kind: partial(self._calm, name) for kind, name in DOORS.items()},
        }
        self._do = {
            plan.WORKER: self._kill_worker,
            plan.FREEZE: self._freeze,
            plan.REBALANCE: self._rebalance,
            plan.GATEWAY: self._kill_gateway,
            plan.ACTIONS_KILL: self._kill_actions,
            plan.BROKER: self._kill_broker,
            plan.MASTER: self._kill_master,
            plan.ISOLATE: self._isolate,
            **dict.fromkeys(DOORS, self._cut),
        }

    def run(self, done: Callable[[], bool] = lambda: False) -> None:
        """Inject all faults of the plan, or as many as possible until `done`. Raises NothingCanBeKilled."""
        last = time.monotonic()
        while self._pending and not done():
            self._update()
            fault = self._next()
            if fault is None or not self._inject(fault):
                if time.monotonic() - last > STUCK_S:
                    kinds = ", ".join(sorted({fault.kind for fault in self._pending}))
                    raise NothingCanBeKilled(f"for {STUCK_S:.0f} s nothing was well enough for: {kinds}")
                time.sleep(0.2)
                continue
            self._pending.remove(fault)
            last = time.monotonic()
            self._sleep(fault.gap_s)

    def heal(self, deadline_s: float = STUCK_S) -> None:
        """Wait until every target is ready again. Raises NothingCanBeKilled, which names the other targets."""
        end = time.monotonic() + deadline_s
        while self._recovering or self._frozen or any(thread.is_alive() for thread in self._leaving):
            self._update()
            if time.monotonic() > end:
                raise NothingCanBeKilled(f"did not come back: {', '.join(t.target for t, _ in self._recovering)}")
            time.sleep(0.2)

    def counts(self) -> Dict[str, int]:
        """Return the number of injected faults of each kind."""
        return dict(Counter(trouble.kind for trouble in self.troubles))

    def _next(self) -> Optional[Fault]:
        """Return the first fault of the plan whose target is ready; None if there is none."""
        possible: Dict[str, bool] = {}
        for fault in self._pending:
            if fault.kind not in possible:
                possible[fault.kind] = self._can[fault.kind]()
            if possible[fault.kind]:
                return fault
        return None

    def _inject(self, fault: Fault) -> bool:
        """Inject a fault; return False if its last ready target has failed since it was checked."""
        try:
            self._do[fault.kind](fault)
        except _NoReadyTarget:
            return False
        return True

    def _update(self) -> None:
        """Let the workers go on whose freeze is over, and record which targets are ready again."""
        for name in [name for name, at in self._frozen.items() if time.monotonic() >= at]:
            del self._frozen[name]
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._system.stack.pid(name), signal.SIGCONT)
        for trouble, well in list(self._recovering):
            if well():
                trouble.until_ms = _now_ms()
                self._recovering.remove((trouble, well))

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._update()
            time.sleep(0.05)

    def _note(self, kind: str, target: str, well: Callable[[], bool]) -> None:
        """Record a fault that begins now; `well` returns whether its target is ready again."""
        trouble = Trouble(kind, target, _now_ms())
        self.troubles.append(trouble)
        self._recovering.append((trouble, well))
        self._tell(f"{len(self.troubles)}: {kind} ({target})")

    def _workers(self) -> List[str]:
        return [name for name in self._system.workers if name not in self._frozen]

    def _ready(self, names: List[str]) -> List[str]:
        return [name for name in names if self._system.stack.ready(name)]

    @staticmethod
    def _one_of(fault: Fault, names: List[str]) -> str:
        if not names:
            raise _NoReadyTarget
        return names[fault.pick % len(names)]

    def _kill(self, fault: Fault, name: str, well: Callable[[], bool]) -> None:
        self._note(fault.kind, name, well)
        self._system.stack.kill(name, fault.down_s)

    def _kill_worker(self, fault: Fault) -> None:
        self._kill_one_of(fault, self._ready(self._workers()))

    def _kill_gateway(self, fault: Fault) -> None:
        self._kill_one_of(fault, self._ready(self._system.gateways))

    def _kill_actions(self, fault: Fault) -> None:
        self._kill_one_of(fault, ["actions"])

    def _kill_one_of(self, fault: Fault, names: List[str]) -> None:
        name = self._one_of(fault, names)
        workers = self._system.workers
        is_worker = name in workers  # a rebalance may remove a worker before it is ready again
        self._kill(fault, name, lambda: (is_worker and name not in workers) or self._system.stack.ready(name))

    def _kill_broker(self, fault: Fault) -> None:
        brokers = self._system.stack.kafka.servers
        self._kill(fault, brokers[fault.pick % len(brokers)].name, self._system.brokers_whole)

    def _kill_master(self, fault: Fault) -> None:
        self._kill(fault, self._one_of(fault, self._system.redis_masters()), self._system.redis_whole)

    def _can_freeze(self) -> bool:
        """Return whether another worker is ready to take the partitions over, unless there is only one worker."""
        return len(self._ready(self._workers())) >= min(2, len(self._system.workers))

    def _freeze(self, fault: Fault) -> None:
        name = self._one_of(fault, self._ready(self._workers()))
        self._frozen[name] = time.monotonic() + fault.down_s
        self._note(fault.kind, name, lambda: name not in self._frozen and self._system.stack.ready(name))
        os.kill(self._system.stack.pid(name), signal.SIGSTOP)

    def _can_rebalance(self) -> bool:
        return bool(self._ready(self._workers())) and not any(thread.is_alive() for thread in self._leaving)

    def _rebalance(self, fault: Fault) -> None:
        workers, stack = self._system.workers, self._system.stack
        if len(workers) < 2 or (len(workers) < MAX_WORKERS and fault.pick % 2):
            name = stack.add_worker()
            workers.append(name)
            self._note(fault.kind, f"{name} joins", lambda: name not in workers or stack.ready(name))
            return
        name = self._one_of(fault, self._ready(self._workers()))
        workers.remove(name)
        leaving = threading.Thread(target=stack.remove, args=(name,), name=f"stop {name}")
        leaving.start()
        self._leaving.append(leaving)
        self._note(fault.kind, f"{name} leaves", lambda: not leaving.is_alive())

    def _calm(self, door: str) -> bool:
        """Return whether no fault of the doors with this name lasts."""
        return not any(trouble.target.startswith(f"{door} ") for trouble, _ in self._recovering)

    def _cut(self, fault: Fault) -> None:
        name = DOORS[fault.kind]
        self._trouble(fault, name, fault.pick % self._system.doors.count(name), fault.style)

    def _isolate(self, fault: Fault) -> None:
        """Hold a Redis master's connections, or freeze it. In both cases it comes back and believes to be master."""
        name = self._one_of(fault, self._system.redis_masters())
        if fault.pick % 2:
            self._trouble(fault, *self._system.door_of(name), HELD)
            return
        self._frozen[name] = time.monotonic() + fault.down_s
        self._note(fault.kind, f"{name} frozen {fault.down_s} s", self._system.redis_whole)
        os.kill(self._system.stack.pid(name), signal.SIGSTOP)

    def _trouble(self, fault: Fault, door: str, number: int, style: str) -> None:
        over = self._system.doors.trouble(door, number, style, fault.down_s)
        lasting = f"{fault.down_s} s" if style != CUT else "at once"
        self._note(fault.kind, f"{door} {number}: {style} {lasting}", over)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
