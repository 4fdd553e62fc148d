"""Who asks: what the worker put beside the message, taken from the token and from nowhere else."""

from typing import Any

from rasa_sdk import Tracker

from actions.shop import Asker

SHELL_TENANT, SHELL_USER = "demo", "shell"  # `rasa shell` knows neither; every message of a worker names its own


def asker(tracker: Tracker, phone_last4: str | None = None) -> Asker:
    """Return who sent the latest message; one without metadata comes from a guest.

    Args:
        tracker: of the conversation.
        phone_last4: what a guest gave to prove that an order is the guest's own.
    """
    metadata: dict[str, Any] = tracker.latest_message.get("metadata") or {}
    tenant, user = metadata.get("tenant") or SHELL_TENANT, metadata.get("user") or SHELL_USER
    # `is True`: a text like "false" must not make a customer of a guest.
    if metadata.get("identified") is True:
        return Asker(tenant, customer=user)
    return Asker(tenant, guest=user, phone_last4=phone_last4)


def language(tracker: Tracker) -> str:
    """Return `en` or `zh`, the language of the customer."""
    return "en" if tracker.slots.get("language") == "en" else "zh"
