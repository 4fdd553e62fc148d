"""A tracker that is kept from turn to turn, so that no events are replayed in a turn.

Actions and policies use it as Rasa's own tracker. Each action gets a copy, so copies must be cheap: slots are replaced
instead of changed, so that copies share them.
"""

import dataclasses
from collections import deque
from functools import lru_cache
from itertools import islice
from typing import Any, Deque, Dict, List, Optional

from rasa.shared.core.domain import Domain, State
from rasa.shared.core.events import Event
from rasa.shared.core.trackers import DialogueStateTracker

from kefu.worker.engine.domain_view import DomainView, with_value
from kefu.worker.engine.states import History


@lru_cache(maxsize=16)
def _stamps(model_id: Optional[str], assistant_id: Optional[str]) -> Dict[str, Any]:
    """Return the metadata for an event that has none: the two ids. Events share the dict, which saves 1.6 kB a turn."""
    stamps = {"model_id": model_id, "assistant_id": assistant_id}
    return {name: value for name, value in stamps.items() if value}


class LiveTracker(DialogueStateTracker):
    """A conversation's tracker with its history kept up to date."""

    events: Deque[Event]

    def __init__(self, conversation: str, view: DomainView) -> None:
        """Return the tracker of a conversation without events.

        Args:
            conversation: `tenant:user`, the sender id.
            view: the domain's view, shared by the trackers of one model.
        """
        self._view = view
        self.history: Optional[History] = History(view)
        super().__init__(conversation, None)

    def update(self, event: Event, domain: Optional[Domain] = None) -> None:
        """Append an event and apply it, as Rasa's tracker does, and update the history."""
        self._stamp(event)
        self.events.append(event)
        if self.history is not None and not self.history.add(event):
            self.history = None
        event.apply_to(self)

    def _stamp(self, event: Event) -> None:
        """Add the ids of the model and the assistant to the event's metadata, as Rasa's tracker does."""
        if not event.metadata:
            event.metadata = _stamps(self.model_id, self.assistant_id)
            return
        if self.model_id and "model_id" not in event.metadata:
            event.metadata = {**event.metadata, "model_id": self.model_id}
        if self.assistant_id and "assistant_id" not in event.metadata:
            event.metadata = {**event.metadata, "assistant_id": self.assistant_id}

    def begin_with(self, events: List[Event], last: int) -> None:
        """Replace all events but the last `last` by `events`, which lead to the same slots, loop and pause.

        Afterwards the tracker equals a tracker that has seen only `events` and the last ones.

        Args:
            events: the replacement.
            last: how many of the last events stay.
        """
        kept = list(islice(self.events, len(self.events) - last, None))
        self.events = deque([*events, *kept])
        if self.history is not None:
            self.history = self.history.begun_with(events, kept)

    def copy(self) -> "LiveTracker":
        """Return a copy on which events can be tried. It has no history, and adds no ids to events."""
        other: LiveTracker = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.events = self.events.copy()
        other.slots = self.slots.copy()
        other.active_loop = self.active_loop and dataclasses.replace(self.active_loop)
        other.history = other.model_id = other.assistant_id = None
        return other

    def applied_events(self) -> List[Event]:
        """Return the events that count, without events that a later event took back (a rewind, a restart)."""
        return super().applied_events() if self.history is None else list(self.history.applied)

    @property
    def has_begun(self) -> bool:
        """Whether any event counts: a session has started and was not restarted since."""
        return bool(self.applied_events() if self.history is None else self.history.applied)

    def past_states(
        self,
        domain: Domain,
        omit_unset_slots: bool = False,
        ignore_rule_only_turns: bool = False,
        rule_only_data: Optional[Dict[str, Any]] = None,
    ) -> List[State]:
        """Return the states that policies read, for a policy that doesn't use `history`."""
        unknown = ignore_rule_only_turns and (rule_only_data or {}) != self._view.rule_only
        if self.history is None or omit_unset_slots or unknown:
            return super().past_states(domain, omit_unset_slots, ignore_rule_only_turns, rule_only_data)
        snapshots = self.history.learned_states() if ignore_rule_only_turns else self.history.states()
        return [snapshot.copy() for snapshot in snapshots]

    def _set_slot(self, name: str, value: Any) -> None:
        slot = self.slots.get(name)
        if slot is None:
            super()._set_slot(name, value)  # logs that there is no such slot
        else:
            self.slots[name] = with_value(slot, value)

    def _reset_slots(self) -> None:
        self.slots = dict(self._view.slots)
