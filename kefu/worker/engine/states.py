"""The states of a conversation that policies read, kept up to date event by event instead of replayed.

A state is what a policy sees of a conversation before an action: the latest message, the slots, the previous action,
the active loop. For each prediction, stock Rasa replays all events to find the states. Here each event changes a
`History`. An event that takes others back (a form that runs again, a rewind) restores an earlier state.

Source: rasa 3.6.21, `DialogueStateTracker.applied_events`, `Domain.states_for_tracker_history`.
The states are the same, step by step; tests/worker/test_policies.py compares them on random events.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from rasa.shared.core import events as rasa_events
from rasa.shared.core.constants import (
    ACTION_LISTEN_NAME,
    ACTIVE_LOOP,
    LOOP_NAME,
    PREVIOUS_ACTION,
    SHOULD_NOT_BE_SET,
    SLOTS,
    USER,
)
from rasa.shared.core.domain import State
from rasa.shared.core.events import (
    ActionExecuted,
    ActionExecutionRejected,
    ActionReverted,
    ActiveLoop,
    DefinePrevUserUtteredFeaturization,
    EntitiesAdded,
    Event,
    LegacyForm,
    Restarted,
    SessionStarted,
    StoryExported,
    UserUtteranceReverted,
    UserUttered,
)
from rasa.shared.nlu.constants import ACTION_NAME

from kefu.worker.engine.domain_view import DomainView, Snapshot

_KNOWN = frozenset(
    kind for kind in vars(rasa_events).values() if isinstance(kind, type) and issubclass(kind, Event)
) - {StoryExported}  # this event writes a file when it is applied
_TAKE_BACK = frozenset({ActionReverted, UserUtteranceReverted})
_BEGIN_ANEW = frozenset({Restarted, SessionStarted})
_LOOPS = frozenset({ActiveLoop, LegacyForm})
_OF_A_MESSAGE = frozenset({DefinePrevUserUtteredFeaturization, EntitiesAdded})  # they change the latest message
_OF_A_TURN = frozenset({ActionExecuted, UserUttered, DefinePrevUserUtteredFeaturization})  # see `_back_to_loop`


class _Now:
    """The parts of a tracker that states show, after the applied events. A target for Rasa's `Event.apply_to`."""

    __slots__ = (
        "_paused",
        "_seen",
        "_user",
        "_view",
        "features",
        "followup_action",
        "latest_action",
        "latest_bot_utterance",
        "latest_message",
        "loop",
    )

    def __init__(self, view: DomainView) -> None:
        self._view = view
        self.latest_bot_utterance = None
        self.restore((UserUttered.empty(), {}, view.features, None, ACTION_LISTEN_NAME))

    def checkpoint(self) -> Tuple[Any, ...]:
        """Return the present values, to be given to `restore` later. Later events don't change them."""
        return self.latest_message, self.latest_action, self.features, self.loop, self.followup_action

    def restore(self, checkpoint: Tuple[Any, ...]) -> None:
        self.latest_message, self.latest_action, self.features, self.loop, self.followup_action = checkpoint
        self._seen: Any = None

    @property
    def latest_action_name(self) -> Optional[str]:
        return self.latest_action.get("action_name") or self.latest_action.get("action_text")

    @property
    def loop_name(self) -> Optional[str]:
        return None if self.loop == SHOULD_NOT_BE_SET else self.loop

    def state(self) -> State:
        """Return the present state, without empty parts."""
        message = self.latest_message
        seen = (message, message.use_text_for_featurization, len(message.entities))
        if seen[0] is not (self._seen and self._seen[0]) or seen[1:] != self._seen[1:]:
            self._seen, self._user = seen, self._view.user_part(message)
        parts = (
            (USER, self._user),
            (SLOTS, self.features),
            (PREVIOUS_ACTION, self.latest_action),
            (ACTIVE_LOOP, {LOOP_NAME: self.loop} if self.loop is not None else None),
        )
        return {name: part for name, part in parts if part}

    def _set_slot(self, name: str, value: Any) -> None:
        self.features = self._view.set_feature(self.features, name, value)

    def _reset_slots(self) -> None:
        self.features = self._view.features

    def set_latest_action(self, action: Dict[str, str]) -> None:
        self.latest_action = action

    def clear_followup_action(self) -> None:
        self.followup_action = None

    def trigger_followup_action(self, action: str) -> None:
        self.followup_action = action

    def change_loop_to(self, name: Optional[str]) -> None:
        self.loop = name

    def interrupt_loop(self, is_interrupted: bool) -> None:
        """Do nothing, because no state shows an interruption."""

    def reject_action(self, action_name: str) -> None:
        """Do nothing, because no state shows a rejection."""


class _Fold(NamedTuple):
    """The values from which the next state for learning policies is computed (policies that learn from stories).

    Those policies don't see turns in which only rules decided. The states of such turns are hidden.

    Attributes:
        hidden: whether the current turn is such a turn.
        action: the last action before the hidden turn, or the last action at all.
        user: the message in the last state that was not hidden; None before the first one.
        states: the number of states that were not hidden.
    """

    hidden: bool = False
    action: Optional[Dict[str, str]] = None
    user: Optional[Dict[str, Any]] = None
    states: int = 0


class _Mark(NamedTuple):
    """The moment before an action: the action's index in the applied events, and the values to go back to."""

    at: int
    now: Tuple[Any, ...]
    fold: _Fold


class History:
    """The applied events of a conversation and the states before each of their actions."""

    def __init__(self, view: DomainView) -> None:
        self._view = view
        self._loops: Dict[str, None] = {}
        self._begin()

    def _begin(self) -> None:
        self.applied: List[Event] = []
        self._now = _Now(self._view)
        self._fold = _Fold()
        self._marks: List[_Mark] = []
        self._states: List[Snapshot] = []
        self._learned: List[Snapshot] = []

    def add(self, event: Event) -> bool:
        """Apply one event. Return False if that isn't supported; then the tracker replays its events, as in Rasa."""
        kind = type(event)
        if kind not in _KNOWN or (kind in _OF_A_MESSAGE and not self._is_heard_last()):
            return False
        if kind in _BEGIN_ANEW:
            self._begin()
        elif kind in _TAKE_BACK:
            self._take_back(UserUttered if kind is UserUtteranceReverted else None)
        elif kind is ActionExecuted and event.action_name in self._loops and self._is_run_again(event.action_name):
            self._back_to_loop(event.action_name)
        else:
            if kind in _LOOPS and event.name and event.name not in self._loops:
                self._loops[event.name] = None
                if self._ran_before(event.name) > 1:
                    return False  # now that the action is known to be a loop, Rasa reads its earlier runs as a loop's
            self._apply(event)
        return True

    def begun_with(self, events: List[Event], kept: List[Event]) -> "Optional[History]":
        """Return the history of `events` and then `kept`; None if it can't be followed, as in `add`.

        The new history is replayed until its values equal those that this history had before the same event. From
        there on it takes over this history's states.

        Args:
            events: replace the events before `kept`.
            kept: the last events that this history has seen.
        """
        other = History(self._view)
        moments = {id(self.applied[mark.at]): index for index, mark in enumerate(self._marks)}
        for event in [*events, *kept]:
            if not other.add(event):
                return None
            index = moments.get(id(event))
            if index is not None and other._is_as(self, index):
                other._go_on_as(self, index)
                break
        return other

    def _is_as(self, other: "History", index: int) -> bool:
        """Return whether the last event is the other history's `index`th action, with equal values before it."""
        mine, theirs = self._marks[-1], other._marks[index]
        same_event = self.applied[mine.at] is self.applied[-1] is other.applied[theirs.at]
        same_message = mine.now[0] is theirs.now[0]
        return same_event and same_message and mine.now == theirs.now and mine.fold[:-1] == theirs.fold[:-1]

    def _go_on_as(self, other: "History", index: int) -> None:
        """Take over the other history from its `index`th action on."""
        mine, theirs = self._marks.pop(), other._marks[index]
        moved, fewer = mine.at - theirs.at, mine.fold.states - theirs.fold.states
        self.applied[mine.at :] = other.applied[theirs.at :]
        self._states[len(self._marks) :] = other._states[index:]
        self._learned[mine.fold.states :] = other._learned[theirs.fold.states :]
        for mark in other._marks[index:]:
            fold = mark.fold._replace(states=mark.fold.states + fewer)
            self._marks.append(_Mark(mark.at + moved, mark.now, fold))
        self._fold = other._fold._replace(states=other._fold.states + fewer)
        self._now = other._now
        self._loops = other._loops

    def states(self, last: Optional[int] = None) -> List[Snapshot]:
        """Return the states that rules read, oldest first, with the present one. `last` limits their number."""
        return [*_tail(self._states, last), self._view.snapshot(self._now.state())]

    @property
    def count(self) -> int:
        """The number of states that rules read, including the present one."""
        return len(self._states) + 1

    def learned_states(self, last: Optional[int] = None) -> List[Snapshot]:
        """Return the states for policies that learn from stories, without turns in which only rules decided.

        `last` limits their number, counted from the newest.
        """
        state, _ = self._step(hide=False)
        return _tail(self._learned, last) if state is None else [*_tail(self._learned, last), state]

    def _apply(self, event: Event) -> None:
        if type(event) is ActionExecuted:
            self._marks.append(_Mark(len(self.applied), self._now.checkpoint(), self._fold))
            self._states.append(self._view.snapshot(self._now.state()))
            state, self._fold = self._step(event.hide_rule_turn)
            if state is not None:
                self._learned.append(state)
        self.applied.append(event)
        event.apply_to(self._now)  # type: ignore[arg-type]

    def _step(self, hide: bool) -> Tuple[Optional[Snapshot], _Fold]:
        """Return the learning policies' present state (None if hidden), and the values for the next step."""
        now, (hidden, action, user, states) = self._now, self._fold
        if not hidden:
            action = now.latest_action
        # A follow-up or a loop's happy path doesn't change whether the turn is hidden.
        if not now.followup_action and now.latest_action_name != now.loop_name:
            hidden = hide
        if hidden:
            return None, _Fold(hidden, action, user, states)
        state = self._without_rule_only(now.state())
        if states and now.latest_action.get(ACTION_NAME) != ACTION_LISTEN_NAME:
            state.pop(USER, None)
            if user:
                state[USER] = user
        if action:
            state[PREVIOUS_ACTION] = action
        return self._view.snapshot(state), _Fold(hidden, action, state.get(USER), states + 1)

    def _without_rule_only(self, state: State) -> State:
        view = self._view
        if view.rule_only_slots and SLOTS in state:
            slots = {name: feature for name, feature in state[SLOTS].items() if name not in view.rule_only_slots}
            state.pop(SLOTS) if not slots else state.__setitem__(SLOTS, slots)
        if ACTIVE_LOOP in state and state[ACTIVE_LOOP][LOOP_NAME] in view.rule_only_loops:
            del state[ACTIVE_LOOP]
        return state

    def _is_heard_last(self) -> bool:
        """Return whether no action came after the latest message. Then no past state shows the message."""
        turn = (event for event in reversed(self.applied) if type(event) in (UserUttered, ActionExecuted))
        return type(next(turn, None)) is UserUttered or self._now.latest_action_name != ACTION_LISTEN_NAME

    def _is_run_again(self, loop: str) -> bool:
        """Return whether a loop's run continues an earlier run. Then it replaces the earlier run's turn."""
        next_action: Optional[str] = None
        for event in reversed(self.applied):
            kind = type(event)
            if kind in _LOOPS and event.name is None:
                return False
            if kind is ActionExecutionRejected and event.action_name == loop:
                return False
            if kind is UserUttered and next_action is not None and next_action != loop:
                return False
            if kind is ActionExecuted:
                if event.action_name == loop:
                    return True
                next_action = event.action_name
        return False

    def _ran_before(self, action: str) -> int:
        return sum(type(event) is ActionExecuted and event.action_name == action for event in self.applied)

    def _back_to_loop(self, loop: str) -> None:
        """Take back the turn since the loop's last run, except for the slots and the like that it set."""
        at = next(
            n
            for n in range(len(self.applied) - 1, -1, -1)
            if type(self.applied[n]) is ActionExecuted and self.applied[n].action_name == loop
        )
        kept = [event for event in self.applied[at + 1 :] if type(event) not in _OF_A_TURN]
        self._back_to(at, self.applied[at : at + 1] + kept)

    def _take_back(self, until: Optional[type]) -> None:
        """Take back the last action, or the last message and the action before it."""
        at = len(self.applied)
        for kind in (until, ActionExecuted):
            if kind is not None:
                at = next((n for n in range(at - 1, -1, -1) if type(self.applied[n]) is kind), 0)
        self._back_to(at, [])

    def _back_to(self, at: int, again: List[Event]) -> None:
        """Go back to the moment before the applied event `at`, then apply the events `again`."""
        while self._marks and self._marks[-1].at > at:
            self._marks.pop()
        if not self._marks:
            replayed = self.applied[:at]
            self._begin()
        else:
            mark = self._marks.pop()
            replayed = self.applied[mark.at : at]
            del self.applied[mark.at :]
            del self._states[len(self._marks) :]
            del self._learned[mark.fold.states :]
            self._now.restore(mark.now)
            self._fold = mark.fold
        for event in [*replayed, *again]:
            self._apply(event)


def _tail(states: List[Snapshot], last: Optional[int]) -> List[Snapshot]:
    """Return all states, or the last ones so that together with the present state there are `last`."""
    if last is None:
        return states
    return states[-(last - 1) :] if last > 1 else []
