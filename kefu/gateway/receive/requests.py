"""RECEIVE: makes a request into a `UserSaid`, checked, limited in size and masked, so that it may leave the process."""

import os
import re
from typing import Any, Dict, Optional

import orjson
from sanic import Request

from kefu.events import CHANNELS, MESSAGE_ID, UserSaid
from kefu.gateway.problems import Problem
from kefu.gateway.receive.auth import Caller
from kefu.privacy import mask, mask_all
from kefu.settings import MAX_TEXT_CHARS

# Limits of a message; a request beyond one of them is refused by 422.
MAX_PAYLOAD_CHARS = 1024
MAX_METADATA_BYTES = 4096
MAX_METADATA_DEPTH = 5
_JSON_TYPE = re.compile(r'application/json\s*(;\s*charset="?utf-?8"?\s*)?', re.IGNORECASE)
_WAIT = re.compile(r'\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:;.*)?', re.IGNORECASE | re.DOTALL)
_SEQ = re.compile(r"\d{1,18}", re.ASCII)
# Source: W3C Trace Context, traceparent of version 00.
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def body_of(request: Request) -> Dict[str, Any]:
    """Return the JSON object in the body.

    Raises:
        Problem: 415 for another content type, 400 for invalid JSON (lone surrogates included) or a JSON non-object.
    """
    if not _JSON_TYPE.fullmatch(request.headers.get("content-type", "")):
        raise Problem("unsupported-media-type", "Send Content-Type: application/json, UTF-8.")
    try:
        body = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        raise Problem("not-json", "The body must be one JSON object in valid UTF-8.") from None
    if not isinstance(body, dict):
        raise Problem("malformed", "The body must be a JSON object.")
    return body


def text_field(body: Dict[str, Any], name: str) -> Optional[str]:
    """Return a string field of the body, None where it is absent or null. Raises Problem 400 for another type."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise Problem("malformed", f"{name} must be a string.")
    return value


def user_said(request: Request, caller: Caller) -> UserSaid:
    """Return the message in the request, masked.

    Raises:
        Problem: the request is invalid; its kind names the fault. Nothing was accepted.
    """
    body = body_of(request)
    text, payload = text_field(body, "text"), text_field(body, "payload")
    if (text is None) == (payload is None):
        raise Problem("malformed", "Send exactly one of text and payload.")
    if text is not None:
        check_text(text)
    if payload is not None:
        _check_payload(payload)
    return UserSaid(
        tenant=caller.tenant,
        user=caller.user,
        message_id=message_id(request, body),
        text=None if text is None else mask(text),
        payload=None if payload is None else mask(payload),
        identified=caller.identified,
        channel=_channel(body),
        metadata=_metadata(body),
        traceparent=traceparent(request),
    )


def wait_s(request: Request, limit_s: float) -> float:
    """Return how long the sender prefers to wait, at most `limit_s`; 0 for not at all.

    The first of several `wait` preferences counts; malformed ones are ignored. Source: RFC 7240.
    """
    for preference in ",".join(request.headers.getall("prefer", [])).split(","):
        match = _WAIT.fullmatch(preference)
        if match:
            return min(float(match[1]), limit_s)
    return 0.0


def check_text(text: str) -> None:
    """Raise Problem 422 for a text that is empty, too long or holds a NUL character."""
    if not text.strip():
        raise Problem("text-empty", "Say something.")
    if len(text) > MAX_TEXT_CHARS:
        raise Problem("text-too-long", f"A text has at most {MAX_TEXT_CHARS} characters.")
    if "\x00" in text:
        raise Problem("text-has-nul", "Remove the NUL characters.")


def _check_payload(payload: str) -> None:
    if not payload.strip() or len(payload) > MAX_PAYLOAD_CHARS or "\x00" in payload:
        raise Problem("payload-invalid", f"A payload is one that a button offered, at most {MAX_PAYLOAD_CHARS} long.")


def message_id(request: Request, body: Dict[str, Any]) -> str:
    """Return the message id from the body or the Idempotency-Key header, a new one where both are absent.

    Raises:
        Problem: 400, the two differ, or the id is malformed.
    """
    given = (text_field(body, "message_id"), _idempotency_key(request))
    ids = {each for each in given if each is not None}
    if len(ids) > 1:
        raise Problem("ids-differ", "message_id and Idempotency-Key are the same thing: send one, or both alike.")
    if not ids:
        return os.urandom(16).hex()
    only = ids.pop()
    if not MESSAGE_ID.fullmatch(only):
        raise Problem("malformed", f"message_id must match {MESSAGE_ID.pattern}.")
    return only


def _idempotency_key(request: Request) -> Optional[str]:
    """Return the header's value, with or without the quotes that the IETF draft wants."""
    raw = request.headers.get("idempotency-key")
    if raw is None:
        return None
    raw = raw.strip()
    return raw[1:-1] if len(raw) > 1 and raw[0] == raw[-1] == '"' else raw


def _channel(body: Dict[str, Any]) -> str:
    channel = text_field(body, "channel") or CHANNELS[0]
    if channel not in CHANNELS:
        raise Problem("malformed", f"channel must be one of {', '.join(CHANNELS)}.")
    return channel


def _metadata(body: Dict[str, Any]) -> Dict[str, Any]:
    metadata = body.get("metadata")
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise Problem("malformed", "metadata must be an object.")
    if _depth(metadata) > MAX_METADATA_DEPTH or len(orjson.dumps(metadata)) > MAX_METADATA_BYTES:
        limits = f"{MAX_METADATA_BYTES} bytes and {MAX_METADATA_DEPTH} levels"
        raise Problem("metadata-invalid", f"metadata may have at most {limits}.")
    if not _plain_keys(metadata):
        raise Problem("metadata-invalid", "Keys of metadata may not hold personal data.")
    return mask_all(metadata)


def _depth(value: Any) -> int:
    """Return how many levels of objects and lists a JSON value has; 0 for a string or a number."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def _plain_keys(value: Any) -> bool:
    """Return whether no key holds personal data. Keys are refused, not masked: two masked keys could become equal."""
    if isinstance(value, dict):
        return all(mask(key) == key and _plain_keys(item) for key, item in value.items())
    return all(map(_plain_keys, value)) if isinstance(value, list) else True


def traceparent(request: Request) -> str:
    """Return the request's W3C trace context, empty where it has none."""
    header = request.headers.get("traceparent", "")
    return header if _TRACEPARENT.fullmatch(header) else ""


def seq_of(raw: Optional[str]) -> int:
    """Return the sequence number in a parameter, 0 where it is absent. Raises Problem 400 for anything else."""
    if raw is None or raw == "":
        return 0
    if not _SEQ.fullmatch(raw):
        raise Problem("malformed", "A place to go on from is a whole number, 0 or more.")
    return int(raw)
