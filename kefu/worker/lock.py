"""The lock store named in endpoints.yml. The worker needs no lock: the partition is the lock, the version the fence.

A conversation belongs to one partition, a partition to one worker, and a lane runs its messages one at a time. For
designers' commands in one process (`rasa shell`, plain `rasa run`) Rasa's in-memory lock is enough.
"""

from typing import Any

from rasa.core.lock_store import InMemoryLockStore


class PartitionLock(InMemoryLockStore):
    """Rasa's in-memory lock; ignores the endpoint's configuration."""

    def __init__(self, endpoint_config: Any = None) -> None:
        super().__init__()
