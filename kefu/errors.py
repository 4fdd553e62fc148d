"""Every error of the platform. A class stands for what the code that catches it does next: its docstring begins so.

Messages and fields name settings, topics, ids and counts, never a customer's text.
"""


class KefuError(Exception):
    """Base of all errors raised by kefu."""


class SettingsError(KefuError):
    """Exit: a setting is missing or malformed.

    Attributes:
        key: names the environment variable.
        problem: the rest of the sentence; it never holds a secret's value.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key} {problem}")
        self.key = key
        self.problem = problem


class DesignError(KefuError):
    """Correct the file: a file that the assistant's designers wrote can't be read. Names the file and the line."""


class UnsafeStart(KefuError):
    """Exit: Rasa was started without a part that the promises need, such as a model or the tracker store."""


class ModelUnfetched(KefuError):
    """Exit: the model for a worker can't be fetched, or has another digest than expected."""


class Retry(KefuError):
    """Try again later: a server that the caller needs is unavailable, while the message itself is valid."""


class StoreUnavailable(Retry):
    """Redis did not answer or refused the write."""


class QueueUnavailable(Retry):
    """Kafka did not acknowledge within the time given, or the local queue is full."""


class RecordRefused(KefuError):
    """Go on without the record: Kafka will never accept it, however often it is sent."""


class VersionConflict(KefuError):
    """Run the turn again from the stored tracker: its version is not the one that the turn started from.

    Attributes:
        expected: version that the turn started from.
        found: version in the store.
    """

    def __init__(self, expected: int, found: int) -> None:
        super().__init__(f"tracker version {found} found, {expected} expected")
        self.expected = expected
        self.found = found


class AlreadyProcessed(KefuError):
    """Publish the stored outcome again: the message has a marker, so it was processed before.

    Attributes:
        marker: the stored outcome, an encoded `AnswerGenerated`.
    """

    def __init__(self, marker: bytes) -> None:
        super().__init__("message has been processed before")
        self.marker = marker


class PoisonMessage(KefuError):
    """Dead-letter: further attempts can't help. `error_class` is a stable name, written to the letter's headers."""

    def __init__(self, error_class: str, problem: str) -> None:
        super().__init__(problem)
        self.error_class = error_class


class ActionFailed(KefuError):
    """Send the action's reply for a failure, never its reply for a success.

    Attributes:
        action: name of the action that failed.
        reason: class of the failure, without any data of the customer.
    """

    def __init__(self, action: str, reason: str) -> None:
        super().__init__(f"action {action} failed: {reason}")
        self.action = action
        self.reason = reason
