"""Conversations cached in memory from turn to turn by the worker that owns their partition.

In: a conversation as Redis holds it. Out: a Rasa tracker, and the snapshot that the next write must carry. A live
conversation is checked out for a turn and put back only after its write succeeded, so that a failed write leaves no
state in memory that differs from the store.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Deque, List, Optional, Set

from rasa.shared.core.events import ActionExecuted, ActiveLoop, Event, SlotSet

from kefu import metrics
from kefu.worker.conversation.events import read_events
from kefu.worker.conversation.handoffs import last_pause
from kefu.worker.conversation.messages import last_said
from kefu.worker.conversation.reminders import reminders
from kefu.worker.conversation.stored import KeptWrite, Stored, TurnWrite
from kefu.worker.engine.domain_view import DomainView
from kefu.worker.engine.tracker import LiveTracker

TURNS_KEPT = 100  # turns kept of a conversation in Redis and memory; older ones are trimmed. Source: DESIGN.md, Redis
TURNS_BEFORE_TRIM = 150  # trimming costs a replay of the conversation, so it waits until 50 turns can go at once
WRITES_REMEMBERED = 8  # how many of a conversation's last writes are kept, in case Redis loses them by a failover


def build_tracker(conversation: str, view: DomainView, events: List[Event]) -> LiveTracker:
    """Return a tracker that has seen `events`."""
    tracker = LiveTracker(conversation, view)
    for event in events:
        tracker.update(event)
    return tracker


def snapshot_of(tracker: LiveTracker) -> List[Event]:
    """Return the events that bring an empty tracker to this one's slots, loop, pause and reminders.

    The events have the order of a real conversation. Policies fail on a loop that no action opened, and on a message
    that no `action_listen` precedes.
    """
    loop = tracker.active_loop_name
    opened: List[Event] = [ActionExecuted(loop), ActiveLoop(loop)] if loop else []
    changed = [SlotSet(slot.name, slot.value) for slot in tracker.slots.values() if slot.value != slot.initial_value]
    pause = last_pause(tracker)  # its metadata holds the current hand-over
    paused = [pause] if pause else []
    standing = reminders(tracker.events).standing.values()
    return [*opened, *changed, *paused, *standing, ActionExecuted("action_listen")]


@dataclass
class LiveConversation:
    """A tracker with its position in the store.

    Attributes:
        version: the stored version that the tracker equals.
        seq: the sequence number of the last reply.
        turn_sizes: how many of the tracker's events each kept turn made. The snapshot's events precede them.
        writes: the last successful writes, oldest first.
        model_id: the model whose domain the tracker uses; another model reads the conversation from the store again.
        partition: the inbox partition of the conversation.
    """

    conversation: str
    tracker: LiveTracker
    version: int = 0
    seq: int = 0
    turn_sizes: Deque[int] = field(default_factory=deque)
    writes: Deque[KeptWrite] = field(default_factory=lambda: deque(maxlen=WRITES_REMEMBERED))
    model_id: str = ""
    partition: int = -1

    @classmethod
    def restore(cls, conversation: str, view: DomainView, stored: Stored) -> "LiveConversation":
        """Return the conversation as the store holds it. An active form that this model doesn't have is ended."""
        events = read_events(stored.snapshot)
        sizes: Deque[int] = deque()
        for turn in stored.turns:
            made = read_events(turn)
            sizes.append(len(made))
            events.extend(made)
        tracker = build_tracker(conversation, view, events)
        if tracker.active_loop_name not in (
            None,
            *view.domain.form_names,
        ):  # the form of another model, which served before a release was rolled back
            tracker.update(ActiveLoop(None))
            if sizes:
                sizes[-1] += 1
        return cls(conversation, tracker, stored.version, stored.seq, sizes)

    @property
    def last_message_s(self) -> Optional[float]:
        """When the customer last wrote, in seconds since the epoch; None if never."""
        last = last_said(self.tracker.events)
        return last.timestamp if last else None

    def snapshot_if_due(self, view: DomainView, new_events: int) -> Optional[List[Event]]:
        """Return the snapshot of all but the last TURNS_KEPT turns; None below TURNS_BEFORE_TRIM turns.

        Args:
            view: the domain that the conversation is replayed with.
            new_events: how many of the tracker's events belong to the turn under way.
        """
        if len(self.turn_sizes) < TURNS_BEFORE_TRIM:
            return None
        kept = sum(list(self.turn_sizes)[-TURNS_KEPT:]) + new_events
        past = LiveTracker(self.conversation, view)
        past.history = None  # no policy predicts from this tracker
        for event in islice(self.tracker.events, len(self.tracker.events) - kept):
            past.update(event)
        return snapshot_of(past)

    def trim(self, snapshot: List[Event], new_events: int) -> None:
        """Drop from memory the turns that the store has just trimmed.

        Args:
            snapshot: the events that stand for these turns.
            new_events: how many of the tracker's events belong to the turn under way.
        """
        while len(self.turn_sizes) > TURNS_KEPT:
            self.turn_sizes.popleft()
        self.tracker.begin_with(snapshot, sum(self.turn_sizes) + new_events)

    def written(self, write: TurnWrite) -> None:
        """Update version, sequence number and turn sizes after the store has accepted this write."""
        self.version = write.version + 1
        self.seq = write.seq
        self.writes.append(write.kept())
        if write.events:
            self.turn_sizes.append(len(write.events))

    def lost_since(self, found: int) -> Optional[List[KeptWrite]]:
        """Return the writes that bring the store from version `found` to `version`; None if memory lacks one."""
        missing = [write for write in self.writes if write.version >= found]
        complete = bool(missing) and missing[0].version == found and missing[-1].version + 1 == self.version
        return missing if complete else None


class LiveConversations:
    """A cache of live conversations, bounded by their number and by their turns; the least recently used goes first.

    The bound on turns is needed because one long conversation takes as much memory as many short ones.
    """

    def __init__(self, limit: int, turns_limit: int = 10_000) -> None:
        self._limit = limit
        self._turns_limit = turns_limit
        self._turns = 0
        self._held: OrderedDict[str, LiveConversation] = OrderedDict()

    def check_out(self, conversation: str) -> Optional[LiveConversation]:
        """Remove a conversation and return it; None if it isn't cached. Put it back only after its write succeeded."""
        live = self._held.pop(conversation, None)
        if live is not None:
            self._turns -= len(live.turn_sizes)
        return live

    def put_back(self, live: LiveConversation) -> None:
        """Cache a conversation whose write succeeded. The caller must not change it any more."""
        self.check_out(live.conversation)
        self._held[live.conversation] = live
        self._turns += len(live.turn_sizes)
        while len(self._held) > self._limit or self._turns > self._turns_limit:
            self.check_out(next(iter(self._held)))
        self._measure()

    def drop(self, partitions: Set[int]) -> None:
        """Remove the conversations of these partitions."""
        for conversation in [name for name, live in self._held.items() if live.partition in partitions]:
            self.check_out(conversation)
        self._measure()

    def _measure(self) -> None:
        metrics.LIVE_TRACKERS.set(len(self._held))
        metrics.LIVE_TURNS.set(self._turns)
