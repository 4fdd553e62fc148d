"""Who asks: what the worker put beside the message, taken from the token and from nowhere else."""

from dataclasses import dataclass
from typing import Any

from rasa_sdk import Tracker

SHELL_TENANT = "demo"  # `rasa shell` knows no tenants; every message of a worker names its own


@dataclass(frozen=True)
class Caller:
    """The sender of the latest message. `customer` is None for a guest."""

    tenant: str
    customer: str | None


def caller(tracker: Tracker) -> Caller:
    """Return who sent the latest message; one without metadata comes from a guest."""
    metadata: dict[str, Any] = tracker.latest_message.get("metadata") or {}
    # `is True`: a text like "false" must not make a customer of a guest.
    known = metadata.get("identified") is True
    return Caller(metadata.get("tenant") or SHELL_TENANT, metadata["user"] if known else None)


def language(tracker: Tracker) -> str:
    """Return `en` or `zh`, the language of the customer."""
    return "en" if tracker.slots.get("language") == "en" else "zh"
