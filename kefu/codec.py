"""Converts events to JSON, and JSON back to checked events: `encode`, `decode`, `decode_inbox`."""

import re
from dataclasses import fields
from typing import Any, Dict, Tuple, Type, TypeVar

import orjson

from kefu.errors import PoisonMessage
from kefu.events import (
    DESK_KINDS,
    IDENTIFIER,
    INBOX_KINDS,
    MESSAGE_ID,
    TYPES,
    VERSION,
    HandoffStarted,
    InboxEvent,
    UserSaid,
)

Event = TypeVar("Event")
_INBOX: Dict[str, Type[Any]] = {kind.__name__: kind for kind in INBOX_KINDS}
_FIELDS = {kind: frozenset(f.name for f in fields(kind)) for kind in TYPES.values()}
_INBOX_LIMITS: Tuple[Tuple[str, "re.Pattern[str]"], ...] = (
    ("tenant", IDENTIFIER),
    ("user", IDENTIFIER),
    ("message_id", MESSAGE_ID),
)


def encode(event: Any) -> bytes:
    """Return the event as JSON, UTF-8."""
    return orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY)  # a confidence may be a numpy float


def decode(value: bytes, kind: Type[Event]) -> Event:
    """Return the event in `value`.

    Unknown fields are ignored, so that a newer sender may add fields.

    Raises:
        PoisonMessage: the value is not JSON, has another type or version, or a field is missing or of the wrong type.
    """
    return _build(_object(value), kind)


def decode_inbox(value: bytes) -> InboxEvent:
    """Return the event in a record of `user.query`. Raises PoisonMessage as `decode` does."""
    document = _object(value)
    kind = _INBOX.get(str(document.get("type")))
    if kind is None:
        raise PoisonMessage("unknown_type", "type is none that the inbox handles")
    return _build(document, kind)


def _object(value: bytes) -> Dict[str, Any]:
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise PoisonMessage("not_json", "value is not JSON") from error
    if not isinstance(document, dict):
        raise PoisonMessage("malformed", "value is not a JSON object")
    return document


def _build(document: Dict[str, Any], kind: Type[Event]) -> Event:
    if document.get("type") != kind.__name__:
        raise PoisonMessage("unknown_type", f"type is not {kind.__name__}")
    if document.get("v") != VERSION:
        raise PoisonMessage("unknown_version", f"version is not {VERSION}")
    try:
        event = kind(**{name: document[name] for name in document.keys() & _FIELDS[kind]})
    except TypeError as error:
        raise PoisonMessage("malformed", f"{kind.__name__} lacks a field") from error
    if kind.__name__ in _INBOX:
        _check_inbox(event)
        _CHECKS.get(kind, _check_timer)(event)
    return event


def _check_inbox(event: Any) -> None:
    """Refuse malformed ids before they reach a tracker: they come from a bug or an attack."""
    for name, pattern in _INBOX_LIMITS:
        value = getattr(event, name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise PoisonMessage("malformed", f"{name} is malformed")
    if not isinstance(event.ts, int):
        raise PoisonMessage("malformed", "ts is of the wrong type")


def _check_said(said: Any) -> None:
    given = [each for each in (said.text, said.payload) if each is not None]
    if len(given) != 1 or not isinstance(given[0], str):
        raise PoisonMessage("malformed", "exactly one of text and payload must be a string, the other absent or null")
    if not isinstance(said.metadata, dict) or not isinstance(said.identified, bool):
        raise PoisonMessage("malformed", "metadata or identified is of the wrong type")


def _check_timer(timer: Any) -> None:
    if not isinstance(timer.due, int) or not isinstance(getattr(timer, "name", ""), str):
        raise PoisonMessage("malformed", "due or name is of the wrong type")


def _check_desk(event: Any) -> None:
    for name, pattern in (("handoff", IDENTIFIER), ("agent", IDENTIFIER)):
        value = getattr(event, name)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise PoisonMessage("malformed", f"{name} is malformed")
    if not isinstance(getattr(event, "text", ""), str) or not isinstance(getattr(event, "name", ""), str):
        raise PoisonMessage("malformed", "text or name is of the wrong type")


def _check_started(started: Any) -> None:
    if not isinstance(started.by, str) or not isinstance(started.summary, dict):
        raise PoisonMessage("malformed", "by or summary is of the wrong type")


_CHECKS = {UserSaid: _check_said, HandoffStarted: _check_started, **dict.fromkeys(DESK_KINDS, _check_desk)}
