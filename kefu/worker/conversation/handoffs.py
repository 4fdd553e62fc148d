"""Whether a person has the conversation, and who: told from its own events, with no clock and no store.

In: the events of a tracker. Out: the `Handoff` that stands. It lies in the metadata of the last
`ConversationPaused`, so that it is stored, trimmed, published and mended as any event is.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, Optional

from rasa.shared.core.events import ConversationPaused
from rasa.shared.core.trackers import DialogueStateTracker

from kefu.worker.conversation.stored import METADATA, TAKEN, WAITING

# Why the desk is refused; stable, for the marker tells it.
ENDED = "handoff_ended"  # nobody gave this conversation, or it is the assistant's again
TAKEN_BY_OTHER = "handoff_taken"
NOT_TAKEN = "handoff_not_taken"  # by whoever asks
TIMER = "kefu.handoff"  # the reminder that stands while the customer waits for the person


@dataclass(frozen=True)
class Handoff:
    """A conversation that a person has or shall have.

    Attributes:
        id: of its HandoffStarted.
        since: when it began, in ms.
        by: the action that asked for a person.
        summary: as HandoffStarted has it.
        status: `waiting` or `taken`.
        agent: who has it; None while it waits.
        taken_at: in ms; None while it waits.
    """

    id: str
    since: int
    by: str
    summary: Dict[str, Any]
    status: str = WAITING
    agent: Optional[str] = None
    taken_at: Optional[int] = None

    def taken(self, agent: str, at: int) -> "Handoff":
        """Return it as `agent` has it."""
        return replace(self, status=TAKEN, agent=agent, taken_at=at)

    def event(self) -> ConversationPaused:
        """Return the event that makes this the conversation's state."""
        return ConversationPaused(metadata={METADATA: asdict(self)})


def standing(tracker: DialogueStateTracker) -> Optional[Handoff]:
    """Return the hand-over that stands; None where the assistant has the conversation, or one must begin."""
    pause = last_pause(tracker)
    found = (pause.metadata or {}).get(METADATA) if pause else None
    return Handoff(**found) if found else None


def last_pause(tracker: DialogueStateTracker) -> Optional[ConversationPaused]:
    """Return the event that paused the conversation, None if it isn't paused."""
    if not tracker.is_paused():
        return None
    return next((event for event in reversed(tracker.events) if type(event) is ConversationPaused), None)
