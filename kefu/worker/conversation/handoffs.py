"""Finds in a conversation's events whether a person, an agent of the desk, answers it, and which one.

In: the events of a tracker. Out: the current `Handoff`. It is kept in the metadata of the last `ConversationPaused`,
so that it is stored, trimmed, published and mended like any event.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, Optional

from rasa.shared.core.events import ConversationPaused
from rasa.shared.core.trackers import DialogueStateTracker

from kefu.worker.conversation.stored import METADATA, TAKEN, WAITING

# The reasons for refusing a desk event. They are stored in markers, so their values must not change.
ENDED = "handoff_ended"  # the hand-over of the event never began, or the assistant answers the conversation again
TAKEN_BY_OTHER = "handoff_taken"
NOT_TAKEN = "handoff_not_taken"  # the agent who sends the event has not taken the conversation
TIMER = "kefu.handoff"  # the name of the reminder that is set while the customer waits for the agent's next message


@dataclass(frozen=True)
class Handoff:
    """The hand-over of a conversation to a person.

    Attributes:
        id: the id of its HandoffStarted event.
        since: when it began, in ms.
        by: the action that asked for a person.
        summary: the summary in HandoffStarted.
        status: `waiting` or `taken`.
        agent: the agent who has the conversation; None while waiting.
        taken_at: when the agent took it, in ms; None while waiting.
    """

    id: str
    since: int
    by: str
    summary: Dict[str, Any]
    status: str = WAITING
    agent: Optional[str] = None
    taken_at: Optional[int] = None

    def taken(self, agent: str, at: int) -> "Handoff":
        """Return the hand-over as taken by `agent` at the time `at`, in ms."""
        return replace(self, status=TAKEN, agent=agent, taken_at=at)

    def event(self) -> ConversationPaused:
        """Return the event that makes this hand-over the conversation's current one."""
        return ConversationPaused(metadata={METADATA: asdict(self)})


def standing(tracker: DialogueStateTracker) -> Optional[Handoff]:
    """Return the current hand-over; None if the assistant has the conversation, or was paused without a hand-over."""
    pause = last_pause(tracker)
    fields = (pause.metadata or {}).get(METADATA) if pause else None
    return Handoff(**fields) if fields else None


def last_pause(tracker: DialogueStateTracker) -> Optional[ConversationPaused]:
    """Return the event that paused the conversation, None if it isn't paused."""
    if not tracker.is_paused():
        return None
    return next((event for event in reversed(tracker.events) if type(event) is ConversationPaused), None)
