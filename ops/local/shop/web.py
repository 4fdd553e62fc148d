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

    `reason` is for programs. It is given where the shop refuses a customer's reasonable request.
    """

    def __init__(self, status: int, slug: str, title: str, headers: Headers = None, reason: str | None = None) -> None:
        super().__init__(slug)
        self.status, self.headers = status, headers
        self.document = {"type": f"urn:kefu:shop:{slug}", "title": title, "status": status}
        if reason is not None:
            self.document["reason"] = reason

    def response(self) -> HTTPResponse:
        """Return the problem as a response."""
        return json(self.document, self.status, self.headers, PROBLEM)


def not_found() -> Problem:
    """Return a 404: byte for byte the same for an unknown order, another customer's order, and wrong digits."""
    return Problem(404, "order-not-found", "There is no such order for you.")


def refusal(reason: str) -> Problem:
    """Return a 409: the shop refuses the request."""
    return Problem(409, "refused", "The shop can't do this.", reason=reason)


def refused(reason: str) -> Answer:
    """Return the refusal as the answer of an effect that changed nothing."""
    return Answer(409, orjson.dumps(refusal(reason).document))


def done(status: int, body: Any) -> Answer:
    """Return the answer of an effect."""
    return Answer(status, orjson.dumps(body))


def json(body: Any, status: int = 200, headers: Headers = None, kind: str = "application/json") -> HTTPResponse:
    """Return a response with a JSON body."""
    return HTTPResponse(orjson.dumps(body), status, headers, kind)


def sent(answer: Answer) -> HTTPResponse:
    """Return an effect's answer, new or stored, as a response."""
    return HTTPResponse(answer.body, answer.status, None, PROBLEM if answer.status >= 400 else "application/json")


def header(request: Request, name: str, pattern: "re.Pattern[str]") -> str:
    """Return a required header. Raises Problem if it is missing or malformed."""
    value = request.headers.get(name, "")
    if not pattern.fullmatch(value):
        raise Problem(400, "bad-header", f"The header {name} is missing or malformed.")
    return value


def optional_header(request: Request, name: str, pattern: "re.Pattern[str]") -> str | None:
    """Return an optional header, None if it is missing. Raises Problem if it is malformed."""
    return header(request, name, pattern) if name in request.headers else None


def body_of(request: Request) -> dict[str, Any]:
    """Return the body, a JSON object; {} for an empty body."""
    try:
        body = orjson.loads(request.body or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Problem(400, "bad-body", "The body must be a JSON object.")
    return body


def bad_body() -> Problem:
    """Return a 400: the body is malformed, which only a program can cause, and no customer."""
    return Problem(400, "bad-body", "A field of the body is missing or malformed.")


class Field:
    """Reads one field of a body.

    Args:
        kind: the type that the JSON value must have; another type is a 400.
        fits: returns the value to use, or None for a value that a customer may type but the shop can't accept.
        default: the value of a missing field; `...` if the field is required.
    """

    def __init__(self, kind: type, fits: Callable[[Any], Any] = lambda value: value, default: Any = ...) -> None:
        self._kind, self._fits, self._default = kind, fits, default

    def read(self, name: str, body: dict[str, Any]) -> Any:
        """Return the value. Raises Problem: 400, or 409 with the reason bad_NAME."""
        value = body.get(name)
        if value is None and self._default is not ...:
            return self._default
        if type(value) is not self._kind:  # exact types: `isinstance` would accept a bool as an int
            raise bad_body()
        fitting = self._fits(value)
        if fitting is None:
            raise refusal(f"bad_{name}")
        return fitting


def words(limit: int, default: Any = ...) -> Field:
    """Return a field for people's text: 1 to `limit` characters, without control characters except line ends."""

    def fits(value: str) -> str | None:
        text = value.replace("\r\n", "\n").replace("\t", " ").strip()  # pasted text has these
        return text if 0 < len(text) <= limit and not UNPRINTABLE.search(text) else None

    return Field(str, fits, default)


def code(pattern: "re.Pattern[str]") -> Field:
    """Return a field that programs fill in. A value that does not match the pattern is a 400."""

    def fits(value: str) -> str:
        if not pattern.fullmatch(value):
            raise bad_body()
        return value

    return Field(str, fits)


def moment() -> Field:
    """Return an optional field for a time with a time zone."""

    def fits(value: str) -> datetime | None:
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            return None
        return time if time.tzinfo else None

    return Field(str, fits, None)


def read(body: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """Return the given fields of a body and ignore others. Raises Problem."""
    return {name: field.read(name, body) for name, field in fields.items()}
