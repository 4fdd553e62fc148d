"""The names of all keys in Redis, and the form of their values.

All keys of one conversation share the hash tag `{tenant:user}`, so they lie in one slot and one script can use them.
"""

from dataclasses import dataclass
from typing import Optional

MAX_REMINDER_NAME_CHARS = 256  # limits a reminder's name; a reminder with a longer name is refused
# The first word of an entry in the index of due times.
IDLE_ENTRY, REMINDER_ENTRY = "idle", "reminder"


@dataclass(frozen=True)
class ConversationKeys:
    """The keys of the conversation `tenant:user`, under `prefix` (setting KEFU_KEY_PREFIX).

    They expire together, 7 days after the last write, so that a conversation's state is whole or gone.
    """

    prefix: str
    conversation: str

    def _key(self, name: str) -> str:
        return f"{self.prefix}:{{{self.conversation}}}:{name}"

    @property
    def state(self) -> str:
        """Hash: `version` (rises by 1 with each write), `seq` (of the last reply), `snapshot` (JSON events), `handoff`.

        `handoff` exists from the request for a person until the conversation is the assistant's again. It is JSON, see
        `kefu.worker.conversation.handoffs`.
        """
        return self._key("state")

    @property
    def turns(self) -> str:
        """List: one JSON object for each write, `{"v": version, "events": [...]}`, oldest first."""
        return self._key("turns")

    @property
    def replies(self) -> str:
        """Stream: one entry for each reply, id `<seq>-0`, field `r` its JSON; the newest REPLIES_KEPT."""
        return self._key("replies")

    @property
    def hint(self) -> str:
        """Sharded channel: gets the id of each message that was just answered. Only a hint: it may be lost."""
        return self._key("hint")

    def marker(self, message_id: str) -> str:
        """String: the outcome of a processed message, an encoded AnswerGenerated. Expires after 7 days."""
        return self._key(f"msg:{message_id}")

    def declined(self, message_id: str) -> str:
        """String: exists for a minute after a release's candidate declined this message, see `inbox.lending`."""
        return self._key(f"declined:{message_id}")


def desk_index(prefix: str, tenant: str) -> str:
    """Return the key of a tenant's index of hand-overs: a sorted set of users, by the time (ms) of the last write.

    It lies in a slot of its own and is only a hint: the conversation's state says whether a person has it. It expires
    with the last conversation in it.
    """
    return f"{prefix}:desk:{{{tenant}}}"


def due_index(prefix: str, partition: int) -> str:
    """Return the key of a partition's index of due times: a sorted set, see `kefu.worker.storage.due_index`.

    It belongs to no conversation and lies in a slot of its own. It doesn't expire: entries are removed when due.
    """
    return f"{prefix}:due:{{{partition}}}"


def due_entry(conversation: str, name: Optional[str] = None) -> str:
    """Return the entry of a conversation's silence, or of its reminder `name`, in the index of due times."""
    return f"{IDLE_ENTRY} {conversation}" if name is None else f"{REMINDER_ENTRY} {conversation} {name}"


def track_workers(prefix: str, track: str) -> str:
    """Return the key of a track's workers: a hash of worker to JSON, see `kefu.worker.release.tracks`.

    It expires an hour after its last write.
    """
    return f"{prefix}:track:{{{track}}}:workers"


def track_domain(prefix: str, track: str) -> str:
    """Return the key of the parts of a track's domain that conversations rely on, see `kefu.worker.release.relied`.

    The value is JSON and expires an hour after its last write.
    """
    return f"{prefix}:track:{{{track}}}:domain"


REPLIES_KEPT = 500  # how many of a conversation's newest replies its stream keeps; older ones can't be read again
