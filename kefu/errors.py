"""Every error of the platform, classed by what whoever catches it does next.

Messages and fields name settings, topics, ids and counts, never a customer's text.
"""


class KefuError(Exception):
    """Base of all errors raised by kefu."""


class SettingsError(KefuError):
    """Exit: a setting is missing or malformed.

    Attributes:
        key: names the environment variable.
        problem: the rest of the sentence, never with a secret's value.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key} {problem}")
        self.key = key
        self.problem = problem


class DesignError(KefuError):
    """Mend the assistant's own files: what designers wrote can't be read. Says which file and line."""


class UnsafeStart(KefuError):
    """Exit: Rasa handed over something else than what the promises need."""


class ModelUnfetched(KefuError):
    """Exit: the model that a worker is to serve can't be had, or is another one than was asked for."""


class Retry(KefuError):
    """Try again later: a server that we need is away; the message itself is fine."""


class StoreUnavailable(Retry):
    """Redis did not answer or refused the write."""


class QueueUnavailable(Retry):
    """Kafka did not acknowledge within the time given, or the local queue is full."""


class RecordRefused(KefuError):
    """Go on without it: Kafka will never take this record, whatever is tried."""


class VersionConflict(KefuError):
    """Run the turn again from what is stored: the tracker has another version than was read.

    Attributes:
        expected: version that the turn was computed from.
        found: version in the store.
    """

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"tracker version {found} found, {expected} expected")
        self.expected = expected
        self.found = found


class AlreadyProcessed(KefuError):
    """Publish again what the first processing gave: the message has a marker.

    Attributes:
        marker: the stored outcome, an encoded `AnswerGenerated`.
    """

    def __init__(self, marker: bytes) -> None:
        super().__init__("message has been processed before")
        self.marker = marker


class PoisonMessage(KefuError):
    """Dead-letter: no number of further attempts will help. `error_class` is stable, for headers."""

    def __init__(self, error_class: str, problem: str) -> None:
        super().__init__(problem)
        self.error_class = error_class


class ActionFailed(KefuError):
    """Give the reply of the failure, never that of the success.

    Attributes:
        action: name of the action that failed.
        reason: class of the failure, without any data of the customer.
    """

    def __init__(self, action: str, reason: str) -> None:
        super().__init__(f"action {action} failed: {reason}")
        self.action = action
        self.reason = reason
