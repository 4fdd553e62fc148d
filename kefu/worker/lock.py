"""The lock store named in endpoints.yml. The worker takes no locks.

A conversation belongs to one partition, a partition to one worker, and a lane runs its messages one at a time. If a
former owner of the partition still writes, the version in the write makes Redis refuse it. For designers' commands in
one process (`rasa shell`, plain `rasa run`) Rasa's in-memory lock is enough.
"""

from typing import Any

from rasa.core.lock_store import InMemoryLockStore


class PartitionLock(InMemoryLockStore):
    """Rasa's in-memory lock; ignores the endpoint's configuration."""

    def __init__(self, endpoint_config: Any = None) -> None:
        super().__init__()
