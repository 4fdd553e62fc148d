"""Finds the sender of a message, in the metadata that the worker took from the token, and the sender's language."""

from typing import Any

from rasa_sdk import Tracker

from actions.shop import Asker

SHELL_TENANT, SHELL_USER = "demo", "shell"  # for `rasa shell`; every message of a worker names tenant and user


def asker(tracker: Tracker, phone_last4: str | None = None) -> Asker:
    """Return the sender of the latest message: a guest if it has no metadata.

    Args:
        tracker: tracker of the conversation.
        phone_last4: the phone's last four digits, which a guest gave to prove that an order is their own.
    """
    metadata: dict[str, Any] = tracker.latest_message.get("metadata") or {}
    tenant, user = metadata.get("tenant") or SHELL_TENANT, metadata.get("user") or SHELL_USER
    # `is True`: a text like "false" must not turn a guest into a customer.
    if metadata.get("identified") is True:
        return Asker(tenant, customer=user)
    return Asker(tenant, guest=user, phone_last4=phone_last4)


def language(tracker: Tracker) -> str:
    """Return `en` or `zh`, the language of the customer."""
    return "en" if tracker.slots.get("language") == "en" else "zh"
