"""Every key in Redis, and the form of what lies there.

All keys of one conversation share the hash tag `{tenant:user}`: one slot, one script.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class ConversationKeys:
    """The keys of the conversation `tenant:user`, under `prefix` (setting KEFU_KEY_PREFIX).

    All expire together, 7 days after the last write, so that a state is whole or gone.
    """

    prefix: str
    conversation: str

    def _key(self, name: str) -> str:
        return f"{self.prefix}:{{{self.conversation}}}:{name}"

    @property
    def state(self) -> str:
        """Hash: `version` (one a write), `seq` (of the last reply), `snapshot` (JSON events), `trimmed` (version)."""
        return self._key("state")

    @property
    def turns(self) -> str:
        """List: one JSON object a write, `{"version", "events": [...]}`, oldest first."""
        return self._key("turns")

    @property
    def replies(self) -> str:
        """Stream: one reply an entry, id `<seq>-0`, field `r` its JSON; the newest REPLIES_KEPT."""
        return self._key("replies")

    @property
    def hint(self) -> str:
        """Sharded channel: the id of a message that has just been answered. A hint, never the truth."""
        return self._key("hint")

    def marker(self, message_id: str) -> str:
        """String: the outcome of a processed message, an encoded AnswerGenerated, for 7 days."""
        return self._key(f"msg:{message_id}")


def due_index(prefix: str, partition: int) -> str:
    """Return the key of a partition's index of due times: a sorted set, see `kefu.worker.timers.index`.

    It belongs to no conversation, lies in a slot of its own and doesn't expire: its entries go when they are due.
    """
    return f"{prefix}:due:{{{partition}}}"


REPLIES_KEPT = 500
