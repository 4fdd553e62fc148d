"""ACT: sends the calls of Rasa's RemoteAction to the action server.

It has one connection pool, a time limit per call, retries within the turn's deadline, and an idempotency key (message,
action, ordinal) that makes a repeated call harmless. The domain is sent once and then named by its digest, which
rasa-sdk understands.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from typing import Any, Dict, Optional

import aiohttp
import orjson
from rasa.utils.endpoints import ClientResponseError, EndpointConfig

from kefu import metrics
from kefu.privacy import mask_all
from kefu.tls import client_credentials
from kefu.worker.act.calls import CALLS, PLACE, REHEARSED

logger = logging.getLogger(__name__)

# Limits how many calls of this worker run at once. A further call waits until one ends, at most until its turn's
# deadline. More calls at once would make each wait for the company's system until all of them time out.
CALLS_AT_ONCE = 64
# Limits how many calls of the same action run at once. If that action's back end hangs, the other half of CALLS_AT_ONCE
# is left for the other actions.
CALLS_OF_ONE_ACTION = 32
MAX_ANSWER_BYTES = 256 * 1024  # a longer answer is an error
MAX_ERROR_BYTES = 64 * 1024  # an error's body is read up to here, because a proxy's error page may never end
FIRST_BACKOFF_S = 0.1  # the wait before the first retry; each further wait is twice as long
LAST_BACKOFF_S = 1.0  # the longest wait between two retries
REHEARSED_REPLY = "utter_holding"  # the answer to every call in a rehearsal; `TurnAgent.check` wants it in each model
# The status by which the action server asks for the whole domain, because it doesn't know the digest. Source: rasa-sdk
# 3.21, endpoint.py
DOMAIN_WANTED = 449
_CONNECTING = aiohttp.ClientTimeout(total=2)  # of `connect`
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
# The statuses after which a call is repeated: the action server can't serve for now. 500 is not one of them, because it
# means that the action itself has failed.
RETRIED_STATUS = frozenset({429, 502, 503, 504})


class ActionEndpoint(EndpointConfig):
    """Rasa's endpoint with a connection pool, a deadline and idempotency keys.

    `request` has EndpointConfig's contract: it returns the decoded JSON, raises ClientResponseError for a status of 400
    and more, and aiohttp.ClientError if there was no answer.
    """

    def __init__(self, url: str, timeout_s: float, tls_directory: str = "") -> None:
        """Create the endpoint without connecting; `connect` or the first call connects.

        Args:
            url: of the action server.
            timeout_s: limits a call; a turn's deadline may end it earlier.
            tls_directory: the folder of this worker's certificate and of the authority that signed the action server's
                certificate, see `kefu.tls`. Empty: the worker shows no certificate and trusts the system's authorities.
        """
        super().__init__(url=url)
        self._tls = client_credentials(tls_directory) if tls_directory else None
        self._timeout_s = timeout_s
        self._pool: Optional[aiohttp.ClientSession] = None
        self._at_once = asyncio.Semaphore(CALLS_AT_ONCE)
        self._of_one: Dict[str, asyncio.Semaphore] = {}  # by the action's name: limits the calls of that action
        # The domain that was encoded last. It is compared by identity: a model's domain is always the same object.
        self._domain: Optional[Dict[str, Any]] = None
        self._digest = ""

    async def request(
        self,
        method: str = "post",
        subpath: Optional[str] = None,
        content_type: Optional[str] = "application/json",
        compress: bool = False,
        **kwargs: Any,
    ) -> Optional[Any]:
        """Call the action server and return its answer. Raises when the call's time is used up."""
        body = kwargs["json"]
        action = body.get("next_action", "")
        calls = CALLS.get()
        headers = {"Content-Type": "application/json"}
        if calls is not None:
            headers["Idempotency-Key"] = calls.key(action)
        data = self._encoded(body)
        if REHEARSED.get():
            return {"events": [], "responses": [{"response": REHEARSED_REPLY}]}
        place, began = PLACE.get(), time.monotonic()
        try:
            of_one = self._of_one.setdefault(action, asyncio.Semaphore(CALLS_OF_ONE_ACTION))
            async with place.lent() if place is not None else contextlib.nullcontext(), of_one, self._at_once:
                deadline = time.monotonic() + self._timeout_s  # begins only now: the wait for a semaphore doesn't count
                if calls is not None:
                    deadline = min(deadline, calls.deadline)
                return await self._answer(body, data, headers, deadline)
        finally:
            if calls is not None:
                calls.waited_s += time.monotonic() - began

    async def _answer(self, body: Dict[str, Any], data: bytes, headers: Dict[str, str], deadline: float) -> Any:
        """Repeat the call until the action server answers, or until the next try would begin after the deadline."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                try:
                    return await self._once(data, headers, deadline)
                except ClientResponseError as error:
                    if error.status != DOMAIN_WANTED:
                        raise
                    return await self._once(self._encoded(body, with_domain=True), headers, deadline)
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                status = getattr(error, "status", None)
                final = status is not None and status not in RETRIED_STATUS
                if final or time.monotonic() + backoff_s >= deadline:
                    # RemoteAction handles only ClientErrors, so a time-out is raised as one.
                    raise error if isinstance(error, aiohttp.ClientError) else aiohttp.ServerTimeoutError() from error
            metrics.RETRIES.labels("action").inc()
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, LAST_BACKOFF_S)

    def _encoded(self, body: Dict[str, Any], with_domain: bool = False) -> bytes:
        domain = body.get("domain")
        if domain is not None and domain is not self._domain:
            encoded = orjson.dumps(domain, option=_JSON)
            self._domain, self._encoded_domain = domain, orjson.Fragment(encoded)
            self._digest = hashlib.sha256(encoded).hexdigest()
        sent = {name: value for name, value in body.items() if name != "domain"}
        if domain is not None:
            sent["domain_digest"] = self._digest
            if with_domain:
                sent["domain"] = self._encoded_domain
        return orjson.dumps(sent, option=_JSON)

    async def connect(self) -> None:
        """Open a connection before the first call needs it. The server's answer is ignored; a failure is logged."""
        try:
            async with self._opened().get(self.url, timeout=_CONNECTING, ssl=self._context()):
                pass
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            fields = {"error": error.__class__.__name__}
            logger.warning("the action server can't be reached yet", extra={"fields": fields})

    def _opened(self) -> aiohttp.ClientSession:
        if self._pool is None or self._pool.closed:
            self._pool = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CALLS_AT_ONCE))
        return self._pool

    def _context(self) -> Any:
        return self._tls.current if self._tls else True

    async def _once(self, data: bytes, headers: Dict[str, str], deadline: float) -> Any:
        left_s = max(0.001, deadline - time.monotonic())
        async with self._opened().post(
            self.url,
            data=data,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=left_s),
            ssl=self._context(),
        ) as answer:
            if answer.status >= 400:
                raise ClientResponseError(answer.status, answer.reason, await answer.content.read(MAX_ERROR_BYTES))
            body = await answer.content.read(MAX_ANSWER_BYTES + 1)
            while len(body) <= MAX_ANSWER_BYTES and not answer.content.at_eof():
                body += await answer.content.read(MAX_ANSWER_BYTES + 1 - len(body))
            if len(body) > MAX_ANSWER_BYTES:  # all events of a turn must fit into one Kafka record
                raise aiohttp.ClientPayloadError(f"more than {MAX_ANSWER_BYTES} bytes")
            return mask_all(orjson.loads(body))  # the shop's data enters here, so it is masked here

    async def close(self) -> None:
        """Close the connections to the action server."""
        if self._tls is not None:
            self._tls.close()
        if self._pool is not None:
            await self._pool.close()
