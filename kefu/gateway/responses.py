"""The answers of the gateway: JSON, bytes, and the headers that every one of them has."""

from typing import Any, Dict, Iterable, Optional, Tuple

import orjson
from sanic import HTTPResponse
from sanic.helpers import has_message_body

# What keeps a browser from doing anything with an answer but what it is for. An answer's own header comes first.
SECURITY: Dict[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
_CONTROLS = str.maketrans("", "", "\r\n\x00")
Lines = Iterable[Tuple[bytes, bytes]]


class Answer(HTTPResponse):
    """A response with SECURITY's headers, encoded once for all answers that have none of their own among them."""

    __slots__ = ()

    @property
    def processed_headers(self) -> Lines:  # type: ignore[override] # Sanic only goes through it
        """Return the lines of the header, encoded; no value can start a line of its own."""
        headers = self.headers
        if has_message_body(self.status):
            headers.setdefault("content-type", self.content_type)
        lines = [_line(name, f"{value}") for name, value in headers.items()]
        own = [name for name in SECURITY if name in headers]
        return lines + (_without(own) if own else _BLOCK)


def json_answer(body: Any, status: int = 200, headers: Optional[Dict[str, str]] = None) -> Answer:
    """Return `body` as JSON."""
    return Answer(orjson.dumps(body), status, headers, "application/json")


def _line(name: str, value: str) -> Tuple[bytes, bytes]:
    if not value.isprintable():
        value = value.translate(_CONTROLS)
    return name.encode("ascii"), value.encode(errors="surrogateescape")


def _without(own: Iterable[str]) -> "list[Tuple[bytes, bytes]]":
    return [_line(name, value) for name, value in SECURITY.items() if name not in own]


def _block() -> "list[Tuple[bytes, bytes]]":
    """Return all of SECURITY as one header: Sanic joins each pair by itself, and eight of them take longer."""
    (first, value), *others = SECURITY.items()
    rest = "".join(f"\r\n{name}: {value}" for name, value in others)
    return [(first.encode(), (value + rest).encode())]


_BLOCK = _block()
