"""Take a model's steps in every order and check every state that they lead to."""

from array import array
from dataclasses import dataclass
from typing import Callable, Dict, Hashable, Iterable, List, Optional, Tuple

State = Hashable
Steps = Callable[[State], Iterable[Tuple[str, State]]]
Check = Callable[[State, bool], Optional[str]]


@dataclass
class Found:
    """The result of a search.

    Attributes:
        states: the number of states.
        violation: the promise that the first bad state breaks; None if every state is good.
        way: the shortest sequence of steps that leads to this state.
    """

    states: int
    violation: Optional[str] = None
    way: Tuple[str, ...] = ()


class Search:
    """A breadth-first search, so that the way to a violation is as short as possible."""

    def __init__(self, first: State, steps: Steps, check: Check, limit: int) -> None:
        """Prepare; `check` gets a state and whether it is an end: a state without a further step.

        Raises:
            RuntimeError: from `run`, if there are more than `limit` states: the search then proves nothing.
        """
        self._steps = steps
        self._check = check
        self._limit = limit
        self._states: List[State] = [first]
        self._index: Dict[State, int] = {first: 0}
        self._labels: List[str] = [""]
        self._from = array("q", [-1])
        self._backwards: List[array] = [array("q")]
        self._ends: List[int] = []

    def run(self) -> Found:
        """Check every state, and that each of them can reach an end."""
        at = 0
        while at < len(self._states):
            wrong = self._look(at)
            if wrong:
                return Found(len(self._states), wrong, self._way(at))
            at += 1
        lost = self._without_end()
        if lost is not None:
            return Found(len(self._states), "no end can be reached from here", self._way(lost))
        return Found(len(self._states))

    def _look(self, at: int) -> Optional[str]:
        state, is_end = self._states[at], True
        for label, after in self._steps(state):
            is_end = False
            known = self._index.get(after)
            if known is None:
                known = self._add(label, after, at)
            self._backwards[known].append(at)
        if is_end:
            self._ends.append(at)
        return self._check(state, is_end)

    def _add(self, label: str, state: State, before: int) -> int:
        number = self._index[state] = len(self._states)
        if number >= self._limit:
            raise RuntimeError(f"more than {self._limit} states")
        self._states.append(state)
        self._labels.append(label)
        self._from.append(before)
        self._backwards.append(array("q"))
        return number

    def _way(self, at: int) -> Tuple[str, ...]:
        labels = []
        while at > 0:
            labels.append(self._labels[at])
            at = self._from[at]
        return tuple(reversed(labels))

    def _without_end(self) -> Optional[int]:
        """Return a state that cannot reach an end, None if there is none."""
        reached = bytearray(len(self._states))
        waiting = list(self._ends)
        for end in waiting:
            reached[end] = 1
        while waiting:
            for before in self._backwards[waiting.pop()]:
                if not reached[before]:
                    reached[before] = 1
                    waiting.append(before)
        missing = reached.find(0)
        return None if missing < 0 else missing
