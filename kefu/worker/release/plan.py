"""The chart's plan of a release: which track is active, and which conversations the candidate answers."""

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
    """The content of the file that KEFU_RELEASE_PLAN names. The file may change while the worker runs.

    Attributes:
        active: the track that reads the inbox.
        tenants: tenants whose conversations the candidate answers, all of them.
        percent: the share of the other tenants' conversations that the candidate answers.
    """

    active: str
    tenants: FrozenSet[str] = frozenset()
    percent: float = 0.0

    @classmethod
    def read(cls, path: str) -> "Plan":
        """Return the plan in a file; blocks. Raises SettingsError if the file can't be read or holds no valid plan."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            plan = cls(content["active"], frozenset(content["canary"]["tenants"]), float(content["canary"]["percent"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SettingsError(KEY, f"names a file that can't be used ({error.__class__.__name__})") from error
        if plan.active not in TRACKS or not 0 <= plan.percent <= 100:
            raise SettingsError(KEY, "names a file with another track than blue and green, or no percentage")
        return plan

    def lends(self, conversation: str) -> bool:
        """Return whether the candidate answers this conversation. The answer is the same on every worker."""
        if conversation.partition(":")[0] in self.tenants:
            return True
        # The digest differs from the partitioner's, so that the share is the same in every partition.
        return zlib.crc32(conversation.encode()) % 10_000 < self.percent * 100
