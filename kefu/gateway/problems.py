"""All error answers of the gateway, with their stable types and statuses, and the mapping from errors to answers.

Source: RFC 9457. The text in `detail` comes from this code and never repeats the sender's input.
"""

import asyncio
import logging
from typing import Any, Dict, Mapping, Optional, Tuple

import orjson
from sanic import HTTPResponse, Request
from sanic.exceptions import SanicException
from sanic.handlers import ErrorHandler

from kefu.errors import KefuError, QueueUnavailable, StoreUnavailable
from kefu.gateway.responses import Answer

logger = logging.getLogger(__name__)

PREFIX = "urn:kefu:problem:"
RETRY_AFTER_S = 2  # the Retry-After while Kafka or Redis is unavailable

# Kind to status and title. The kind is the end of a problem's `type`. Clients distinguish problems by it, so it never
# changes.
KINDS: Dict[str, Tuple[int, str]] = {
    "malformed": (400, "The request is malformed"),
    "not-json": (400, "The body is not JSON"),
    "ids-differ": (400, "Two different ids for one message"),
    "unauthorized": (401, "No valid token"),
    "forbidden": (403, "Your role may not do this"),
    "session-refused": (403, "No session for these keys"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "handoff-ended": (409, "The conversation is the assistant's"),
    "handoff-taken": (409, "Somebody else has the conversation"),
    "handoff-not-taken": (409, "You don't have the conversation"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body must be application/json"),
    "text-empty": (422, "The text is empty"),
    "text-too-long": (422, "The text is too long"),
    "text-has-nul": (422, "The text holds a NUL character"),
    "payload-invalid": (422, "The payload is empty or too long"),
    "metadata-invalid": (422, "The metadata is too large or too deep"),
    "user-id-reserved": (422, "The user id is reserved for guests"),
    "too-many-requests": (429, "Too many requests"),
    "too-many-unanswered": (429, "Too many messages wait for their answers"),
    "too-many-streams": (429, "Too many open streams of one user"),
    "client-gone": (499, "The client went away before the answer"),  # seen in metrics and the access log only
    "desk-failed": (500, "It could not be done"),
    "internal": (500, "Something went wrong on our side"),
    "queue-unavailable": (503, "Messages can't be accepted at the moment"),
    "store-unavailable": (503, "Replies can't be read at the moment"),
    "streams-full": (503, "No room for another stream"),
    "unavailable": (503, "Not available at the moment"),
}
_BY_STATUS = {400: "malformed", 404: "not-found", 405: "method-not-allowed", 413: "too-large", 503: "unavailable"}
_QUEUE_DETAIL = (
    "The message was not acknowledged in time. It may still arrive: send it again with the same "
    "message_id, it is answered once."
)


class Problem(KefuError):
    """The request fails, and this problem is its answer. `kind` is a key of KINDS; `headers` go into the response."""

    def __init__(self, kind: str, detail: str = "", headers: Optional[Mapping[str, str]] = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})


def too_soon(kind: str, wait_s: float, detail: str) -> Problem:
    """Return a problem with a Retry-After header of at least `wait_s`, in whole seconds."""
    return Problem(kind, detail, {"Retry-After": str(max(1, round(wait_s + 0.5)))})


def render(problem: Problem) -> HTTPResponse:
    """Return the HTTP response for `problem`, in the form of RFC 9457."""
    status, title = KINDS[problem.kind]
    body: Dict[str, Any] = {"type": PREFIX + problem.kind, "title": title, "status": status}
    if problem.detail:
        body["detail"] = problem.detail
    return Answer(orjson.dumps(body), status, problem.headers, "application/problem+json")


def problem_of(error: BaseException) -> Problem:
    """Return the problem that answers `error`; an unexpected error becomes a 500 without detail."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, QueueUnavailable):
        return too_soon("queue-unavailable", RETRY_AFTER_S, _QUEUE_DETAIL)
    if isinstance(error, StoreUnavailable):
        return too_soon("store-unavailable", RETRY_AFTER_S, "Nothing is lost: ask again later.")
    if isinstance(error, asyncio.CancelledError):
        return Problem("client-gone")
    if isinstance(error, SanicException):
        status = getattr(error, "status_code", 500)
        kind = _BY_STATUS.get(status) or ("malformed" if 400 <= status < 500 else "internal")
        return Problem(kind, headers=getattr(error, "headers", None))
    return Problem("internal")


class ProblemHandler(ErrorHandler):
    """Sanic's error handler, with problems instead of pages."""

    def default(self, request: Request, exception: Exception) -> HTTPResponse:
        """Return the answer for any exception; log the unexpected ones."""
        problem = problem_of(exception)
        if problem.kind == "internal":
            logger.error("request failed", exc_info=exception)
        return render(problem)
