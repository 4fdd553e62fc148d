"""Replays and drops dead letters, and records the handling, so that each letter is handled once.

Kafka can't delete a single record, so the handling of a letter is a record of its own in the same partition. A replay
is recorded before and after it is sent. If only the first of these records exists, the replay is sent again under the
same message id, and the worker answers it once. That holds while Redis keeps the marker of that id, see RESEND_MS.
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Tuple

from kefu.codec import encode
from kefu.events import (
    AUDIT,
    DEAD_LETTERS,
    USER_QUERY,
    AuditEntry,
    DeadLetterHandled,
    InboxEvent,
    UserSaid,
    derived_id,
    now_ms,
)
from kefu.headers import HANDLES, PREFIX, REPLAY_ATTEMPT, REPLAY_OF
from kefu.kafka import EventProducer
from kefu.settings import MARKER_LIFETIME_S
from kefu.tools.dlq.letters import DROPPED, OPEN, REPLAYED, REPLAYING, Letter, State

CHUNK = 100  # limits the letters that are handled at once; the command handles the others afterwards
# If it is unknown whether a replay was sent, it may be sent again within this time: the marker of the first sending
# still exists then, so the message is not answered twice.
RESEND_MS = MARKER_LIFETIME_S * 1000 * 6 // 7


@dataclass(frozen=True)
class Task:
    """One letter to handle. `attempt` is the number of the replay, or, for a drop, of the replays before it."""

    letter: Letter
    attempt: int

    @property
    def message_id(self) -> str:
        """The replay's id, derived from the letter and the attempt, so that a replay sent twice acts once."""
        derived = derived_id("Replay", self.letter.id, self.attempt)
        # For other events the message id is the event's own id, which has no prefix.
        return f"replay-{derived}" if type(self.letter.said) is UserSaid else derived


def refused(letter: Letter, state: State, outcome: str, again: bool) -> str:
    """Return why a letter must not be replayed or dropped, as a sentence; empty if it may be."""
    if outcome == REPLAYED and letter.said is None:
        return f"can't be replayed, for it can't be read ({letter.flaw}): show it, then drop it"
    if again or state.outcome == OPEN:
        return ""
    if state.outcome == REPLAYING:
        return _resend_refused(state) if outcome == REPLAYED else ""
    return f"was {state.outcome} by {state.actor} already; --again does it all the same"


def _resend_refused(state: State) -> str:
    if now_ms() - state.ts < RESEND_MS:
        return ""
    return (
        f"was being replayed by {state.actor}, and nobody knows whether it went out; that is too long ago to "
        "send it again under the same id: look whether the customer was answered, then drop it or use --again"
    )


def task_for(letter: Letter, state: State, outcome: str, again: bool) -> Task:
    """Return the task of handling a letter. A new replay gets the next attempt's number.

    A replay of which it is unknown whether it was sent, and a drop, keep the number.
    """
    same = outcome == DROPPED or (state.outcome == REPLAYING and not again)
    return Task(letter, state.attempt if same else state.attempt + 1)


class Handler:
    """Handles letters in chunks. Every call raises QueueUnavailable when Kafka doesn't acknowledge.

    After that, or after a crash, read the states again and repeat the call: nothing is done twice.
    """

    def __init__(self, producer: EventProducer, actor: str, note: str) -> None:
        self._producer = producer
        self._actor = actor
        self._note = note

    async def replay(self, tasks: List[Task]) -> None:
        """Send each letter's message again as a new message, in the given order."""
        await self._all([*map(self._audit(REPLAYED), tasks), *(self._handled(task, REPLAYING) for task in tasks)])
        await self._all([_replay(task) for task in tasks])
        await self._all([self._handled(task, REPLAYED) for task in tasks])

    async def drop(self, tasks: List[Task]) -> None:
        """Record letters as dropped, so that they are no longer listed as open."""
        await self._all([self._audit(DROPPED)(task) for task in tasks])
        await self._all([self._handled(task, DROPPED) for task in tasks])

    async def _all(self, records: List[Tuple[Any, ...]]) -> None:
        await asyncio.gather(*(self._producer.send(*record) for record in records))

    def _audit(self, outcome: str) -> Any:
        def entry(task: Task) -> Tuple[Any, ...]:
            letter = task.letter
            action = "dead_letter.replay" if outcome == REPLAYED else "dead_letter.drop"
            details: Dict[str, Any] = {
                "position": str(letter.position),
                "error_class": letter.error_class,
                "note": self._note,
            }
            if outcome == REPLAYED:
                details.update(attempt=task.attempt, message_id=task.message_id)
            entry_id = derived_id("AuditEntry", action, letter.id, task.attempt, self._actor)
            audited = AuditEntry(*letter.owner, self._actor, action, letter.id, details, id=entry_id)
            return AUDIT, letter.conversation or letter.id, encode(audited)

        return entry

    def _handled(self, task: Task, outcome: str) -> Tuple[Any, ...]:
        letter = task.letter
        message_id = None if outcome == DROPPED else task.message_id
        done = DeadLetterHandled(*letter.owner, letter.id, outcome, self._actor, task.attempt, message_id, self._note)
        headers = [(HANDLES, letter.id.encode())]
        return DEAD_LETTERS, letter.key, encode(done), headers, letter.position.partition


def _replay(task: Task) -> Tuple[Any, ...]:
    letter = task.letter
    said = _said_again(letter.said, task.message_id)
    kept = [(name, value) for name, value in letter.headers if not name.startswith(PREFIX)]
    headers = [*kept, (REPLAY_OF, letter.id.encode()), (REPLAY_ATTEMPT, str(task.attempt).encode())]
    return USER_QUERY, letter.key, encode(said), headers


def _said_again(said: Optional[InboxEvent], message_id: str) -> InboxEvent:
    """Return the event under a new id and with the current time, because session expiry uses that time.

    A replayed timer fires only if its reminder is still set.
    """
    if said is None:
        raise ValueError("a letter that can't be read was not refused")
    if type(said) is not UserSaid:
        return replace(said, id=message_id, ts=now_ms())
    return replace(said, message_id=message_id, id="", ts=now_ms())
