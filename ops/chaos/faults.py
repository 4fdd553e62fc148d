"""Does to the running system what the plan says, one fault after another, each when its target is well.

In: a `System` and its plan. Out: what was done when, as `Trouble`s.
"""

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Tuple

from ops.chaos import plan
from ops.chaos.doors import CUT, HELD
from ops.chaos.plan import Fault
from ops.chaos.system import ACTIONS, MAX_WORKERS, REDIS, REDIS_OF_GATEWAY, System

STUCK_S = 240.0
DOORS = {plan.CUT_REDIS: REDIS, plan.CUT_GATEWAY: REDIS_OF_GATEWAY, plan.CUT_ACTIONS: ACTIONS}


@dataclass
class Trouble:
    """A fault as it was done; times in ms since the epoch. `until_ms` is when its target was well again."""

    kind: str
    target: str
    since_ms: int
    until_ms: Optional[int] = None

    def show(self) -> Dict[str, Any]:
        """Return it for the report."""
        return {"kind": self.kind, "target": self.target, "since_ms": self.since_ms, "until_ms": self.until_ms}


class NothingCanBeKilled(RuntimeError):
    """Nothing of the plan was well for STUCK_S: something did not come back."""


class _NobodyIsWell(Exception):
    """The last one that it could be done to is well no more."""


class Tormentor:
    """Works a plan off. Lives in one thread, the one that started the system."""

    def __init__(self, system: System, faults: List[Fault], tell: Callable[[str], None]) -> None:
        self.troubles: List[Trouble] = []
        self._system = system
        self._pending = list(faults)
        self._tell = tell
        self._frozen: Dict[str, float] = {}
        self._leaving: List[threading.Thread] = []
        self._unwell: List[Tuple[Trouble, Callable[[], bool]]] = []
        self._can = {
            plan.WORKER: lambda: bool(self._well(self._workers())),
            plan.FREEZE: self._can_freeze,
            plan.REBALANCE: self._can_rebalance,
            plan.GATEWAY: lambda: bool(self._well(system.gateways)),
            plan.ACTIONS_KILL: lambda: system.stack.ready("actions"),
            plan.BROKER: system.brokers_whole,
            plan.MASTER: lambda: self._calm(REDIS) and system.redis_whole(),
            plan.ISOLATE: lambda: self._calm(REDIS) and system.redis_whole(),
            **{kind: lambda name=name: self._calm(name) for kind, name in DOORS.items()},
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
        """Do all of the plan, or as much as can be done until `done`. Raises NothingCanBeKilled."""
        last = time.monotonic()
        while self._pending and not done():
            self._look_after()
            fault = self._next()
            if fault is None or not self._done(fault):
                if time.monotonic() - last > STUCK_S:
                    kinds = ", ".join(sorted({fault.kind for fault in self._pending}))
                    raise NothingCanBeKilled(f"for {STUCK_S:.0f} s nothing was well enough for: {kinds}")
                time.sleep(0.2)
                continue
            self._pending.remove(fault)
            last = time.monotonic()
            self._sleep(fault.gap_s)

    def heal(self, deadline_s: float = STUCK_S) -> None:
        """Wait until all that was killed is well again. Raises NothingCanBeKilled naming what isn't."""
        end = time.monotonic() + deadline_s
        while self._unwell or self._frozen or any(thread.is_alive() for thread in self._leaving):
            self._look_after()
            if time.monotonic() > end:
                raise NothingCanBeKilled(f"did not come back: {', '.join(t.target for t, _ in self._unwell)}")
            time.sleep(0.2)

    def counts(self) -> Dict[str, int]:
        """Return how many faults of each kind were done."""
        return dict(Counter(trouble.kind for trouble in self.troubles))

    def _next(self) -> Optional[Fault]:
        """Return the first fault of the plan that can be done now."""
        possible: Dict[str, bool] = {}
        for fault in self._pending:
            if fault.kind not in possible:
                possible[fault.kind] = self._can[fault.kind]()
            if possible[fault.kind]:
                return fault
        return None

    def _done(self, fault: Fault) -> bool:
        """Do it. Returns False when nobody is well any more whom it could be done to: some time passes in the look."""
        try:
            self._do[fault.kind](fault)
        except _NobodyIsWell:
            return False
        return True

    def _look_after(self) -> None:
        """Thaw what is due, note what is well again."""
        for name in [name for name, at in self._frozen.items() if time.monotonic() >= at]:
            del self._frozen[name]
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._system.stack.pid(name), signal.SIGCONT)
        for trouble, well in list(self._unwell):
            if well():
                trouble.until_ms = _now_ms()
                self._unwell.remove((trouble, well))

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._look_after()
            time.sleep(0.05)

    def _note(self, kind: str, target: str, well: Callable[[], bool]) -> None:
        trouble = Trouble(kind, target, _now_ms())
        self.troubles.append(trouble)
        self._unwell.append((trouble, well))
        self._tell(f"{len(self.troubles)}: {kind} ({target})")

    def _workers(self) -> List[str]:
        return [name for name in self._system.workers if name not in self._frozen]

    def _well(self, names: List[str]) -> List[str]:
        return [name for name in names if self._system.stack.ready(name)]

    @staticmethod
    def _one_of(fault: Fault, names: List[str]) -> str:
        if not names:
            raise _NobodyIsWell
        return names[fault.pick % len(names)]

    def _kill(self, fault: Fault, name: str, well: Callable[[], bool]) -> None:
        self._note(fault.kind, name, well)
        self._system.stack.kill(name, fault.down_s)

    def _kill_worker(self, fault: Fault) -> None:
        self._kill_one_of(fault, self._well(self._workers()))

    def _kill_gateway(self, fault: Fault) -> None:
        self._kill_one_of(fault, self._well(self._system.gateways))

    def _kill_actions(self, fault: Fault) -> None:
        self._kill_one_of(fault, ["actions"])

    def _kill_one_of(self, fault: Fault, names: List[str]) -> None:
        name = self._one_of(fault, names)
        workers = self._system.workers
        left = name in workers  # it may leave for good before it is ready again
        self._kill(fault, name, lambda: (left and name not in workers) or self._system.stack.ready(name))

    def _kill_broker(self, fault: Fault) -> None:
        brokers = self._system.stack.kafka.servers
        self._kill(fault, brokers[fault.pick % len(brokers)].name, self._system.brokers_whole)

    def _kill_master(self, fault: Fault) -> None:
        self._kill(fault, self._one_of(fault, self._system.redis_masters()), self._system.redis_whole)

    def _can_freeze(self) -> bool:
        """Another one should be there to take the partitions over, unless there is none at all."""
        return len(self._well(self._workers())) >= min(2, len(self._system.workers))

    def _freeze(self, fault: Fault) -> None:
        name = self._one_of(fault, self._well(self._workers()))
        self._frozen[name] = time.monotonic() + fault.down_s
        self._note(fault.kind, name, lambda: name not in self._frozen and self._system.stack.ready(name))
        os.kill(self._system.stack.pid(name), signal.SIGSTOP)

    def _can_rebalance(self) -> bool:
        return bool(self._well(self._workers())) and not any(thread.is_alive() for thread in self._leaving)

    def _rebalance(self, fault: Fault) -> None:
        workers, stack = self._system.workers, self._system.stack
        if len(workers) < 2 or (len(workers) < MAX_WORKERS and fault.pick % 2):
            name = stack.add_worker()
            workers.append(name)
            self._note(fault.kind, f"{name} joins", lambda: name not in workers or stack.ready(name))
            return
        name = self._one_of(fault, self._well(self._workers()))
        workers.remove(name)
        leaving = threading.Thread(target=stack.remove, args=(name,), name=f"stop {name}")
        leaving.start()
        self._leaving.append(leaving)
        self._note(fault.kind, f"{name} leaves", lambda: not leaving.is_alive())

    def _calm(self, door: str) -> bool:
        return not any(trouble.target.startswith(f"{door} ") for trouble, _ in self._unwell)

    def _cut(self, fault: Fault) -> None:
        name = DOORS[fault.kind]
        self._trouble(fault, name, fault.pick % self._system.doors.count(name), fault.style)

    def _isolate(self, fault: Fault) -> None:
        """Let a master's connections hang, or the master itself: both come back in the belief that they are master."""
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
