"""The gateway's responses: JSON or bytes, and the security headers that every response has."""

from typing import Any, Dict, Iterable, Optional, Tuple

import orjson
from sanic import HTTPResponse
from sanic.helpers import has_message_body

# These headers keep a browser from using a response for another purpose. A response's own header replaces one of them.
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
    """A response with the headers of SECURITY. Responses that replace none of them share one encoded block."""

    __slots__ = ()

    @property
    def processed_headers(self) -> Lines:  # type: ignore[override] # Sanic only goes through it
        """Return the encoded header lines. Line breaks are removed from values, so none can add a header."""
        headers = self.headers
        if has_message_body(self.status):
            headers.setdefault("content-type", self.content_type)
        lines = [_line(name, f"{value}") for name, value in headers.items()]
        own = [name for name in SECURITY if name in headers]
        return lines + (_without(own) if own else _BLOCK)


def json_answer(body: Any, status: int = 200, headers: Optional[Dict[str, str]] = None) -> Answer:
    """Return a response with `body` as JSON."""
    return Answer(orjson.dumps(body), status, headers, "application/json")


def _line(name: str, value: str) -> Tuple[bytes, bytes]:
    if not value.isprintable():
        value = value.translate(_CONTROLS)
    return name.encode("ascii"), value.encode(errors="surrogateescape")


def _without(own: Iterable[str]) -> "list[Tuple[bytes, bytes]]":
    return [_line(name, value) for name, value in SECURITY.items() if name not in own]


def _block() -> "list[Tuple[bytes, bytes]]":
    """Return all of SECURITY as one name and value: Sanic joins pair by pair, and eight pairs take longer than one."""
    (first, value), *others = SECURITY.items()
    rest = "".join(f"\r\n{name}: {value}" for name, value in others)
    return [(first.encode(), (value + rest).encode())]


_BLOCK = _block()
