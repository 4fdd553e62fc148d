"""Reads requests and makes responses: headers, bodies, problem documents (RFC 9457)."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
from sanic import HTTPResponse, Request

from ops.local.shop.idempotency import Answer

NUMBER = re.compile(r"[0-9]{8}")
LAST4 = re.compile(r"[0-9]{4}")
ID = re.compile(r"[A-Za-z0-9_.@-]{1,128}")
IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
PROBLEM = "application/problem+json"

Headers = dict[str, str] | None
Fields = dict[str, "Field"]


class Problem(Exception):
    """A problem response. It repeats nothing of the request.

    `reason` is for programs, where the shop refuses what a customer may well ask for.
    """

    def __init__(self, status: int, slug: str, title: str, headers: Headers = None, reason: str | None = None) -> None:
        super().__init__(slug)
        self.status, self.headers = status, headers
        self.document = {"type": f"urn:kefu:shop:{slug}", "title": title, "status": status}
        if reason is not None:
            self.document["reason"] = reason

    def response(self) -> HTTPResponse:
        """Return it as it goes out."""
        return json(self.document, self.status, self.headers, PROBLEM)


def not_found() -> Problem:
    """The same 404, byte for byte, for an unknown order, another customer's order, and wrong digits."""
    return Problem(404, "order-not-found", "There is no such order for you.")


def refusal(reason: str) -> Problem:
    """A 409: the shop refuses the request."""
    return Problem(409, "refused", "The shop can't do this.", reason=reason)


def refused(reason: str) -> Answer:
    """The same refusal, as the answer of an effect that changed nothing."""
    return Answer(409, orjson.dumps(refusal(reason).document))


def done(status: int, body: Any) -> Answer:
    """Return the answer of an effect."""
    return Answer(status, orjson.dumps(body))


def json(body: Any, status: int = 200, headers: Headers = None, kind: str = "application/json") -> HTTPResponse:
    """Return a response."""
    return HTTPResponse(orjson.dumps(body), status, headers, kind)


def sent(answer: Answer) -> HTTPResponse:
    """Return the response of an effect, whether it happened now or before."""
    return HTTPResponse(answer.body, answer.status, None, PROBLEM if answer.status >= 400 else "application/json")


def header(request: Request, name: str, pattern: "re.Pattern[str]") -> str:
    """Return a header that must be there."""
    value = request.headers.get(name, "")
    if not pattern.fullmatch(value):
        raise Problem(400, "bad-header", f"The header {name} is missing or malformed.")
    return value


def optional_header(request: Request, name: str, pattern: "re.Pattern[str]") -> str | None:
    """Return a header that may be missing, but not malformed."""
    return header(request, name, pattern) if name in request.headers else None


def body_of(request: Request) -> dict[str, Any]:
    """Return the body, a JSON object; {} for none."""
    try:
        body = orjson.loads(request.body or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Problem(400, "bad-body", "The body must be a JSON object.")
    return body


def bad_body() -> Problem:
    """A 400: the body is malformed, which no customer can cause."""
    return Problem(400, "bad-body", "A field of the body is missing or malformed.")


class Field:
    """Reads one field of a body.

    Args:
        kind: the type that JSON must give it, else 400: no customer's doing.
        fits: returns the value to use, None for one that a customer may type but the shop can't take.
        default: of a missing field; `...` where there is none.
    """

    def __init__(self, kind: type, fits: Callable[[Any], Any] = lambda value: value, default: Any = ...) -> None:
        self._kind, self._fits, self._default = kind, fits, default

    def read(self, name: str, body: dict[str, Any]) -> Any:
        """Return the value. Raises Problem: 400, or 409 with the reason bad_NAME."""
        value = body.get(name)
        if value is None and self._default is not ...:
            return self._default
        if type(value) is not self._kind:  # a bool is no number here
            raise bad_body()
        fitting = self._fits(value)
        if fitting is None:
            raise refusal(f"bad_{name}")
        return fitting


def words(limit: int, default: Any = ...) -> Field:
    """Return a field for what people write, one character to `limit`, without control characters but line ends."""

    def fits(value: str) -> str | None:
        text = value.replace("\r\n", "\n").replace("\t", " ").strip()  # as pasted text has them
        return text if 0 < len(text) <= limit and not UNPRINTABLE.search(text) else None

    return Field(str, fits, default)


def code(pattern: "re.Pattern[str]") -> Field:
    """Return a field that programs fill in: one that does not look like that is answered with 400."""

    def fits(value: str) -> str:
        if not pattern.fullmatch(value):
            raise bad_body()
        return value

    return Field(str, fits)


def moment() -> Field:
    """Return a field for a time with its zone, which may be missing."""

    def fits(value: str) -> datetime | None:
        try:
            read = datetime.fromisoformat(value)
        except ValueError:
            return None
        return read if read.tzinfo else None

    return Field(str, fits, None)


def read(body: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the fields of a body; others are passed over. Raises Problem."""
    return {name: field.read(name, body) for name, field in fields.items()}
