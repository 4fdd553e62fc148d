"""What the chart says of a release: which track is active, and which conversations the candidate answers."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import FrozenSet

from kefu.errors import SettingsError

TRACKS = ("blue", "green")
KEY = "KEFU_RELEASE_PLAN"


@dataclass(frozen=True)
class Plan:
    """The content of the file that KEFU_RELEASE_PLAN names; it changes while the worker runs.

    Attributes:
        active: the track that reads the inbox.
        tenants: whose conversations the other track answers, all of them.
        percent: how many of a hundred conversations of the other tenants it answers.
    """

    active: str
    tenants: FrozenSet[str] = frozenset()
    percent: float = 0.0

    @classmethod
    def read(cls, path: str) -> "Plan":
        """Return what the file says; blocks. Raises SettingsError for one that can't be read or means nothing."""
        try:
            told = json.loads(Path(path).read_text(encoding="utf-8"))
            plan = cls(told["active"], frozenset(told["canary"]["tenants"]), float(told["canary"]["percent"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SettingsError(KEY, f"names a file that can't be used ({error.__class__.__name__})") from error
        if plan.active not in TRACKS or not 0 <= plan.percent <= 100:
            raise SettingsError(KEY, "names a file with another track than blue and green, or no percentage")
        return plan

    def lends(self, conversation: str) -> bool:
        """Return whether the candidate answers this conversation: the same at each message, on each worker."""
        if conversation.partition(":")[0] in self.tenants:
            return True
        # Another digest than the partitioner's, so that the share is the same in every partition.
        return zlib.crc32(conversation.encode()) % 10_000 < self.percent * 100
