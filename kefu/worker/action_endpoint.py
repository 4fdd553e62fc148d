"""ACT: the way from Rasa's RemoteAction to the action server.

One pooled connection set, a time limit a call, retries within the turn's deadline, and an
idempotency key (message, action, ordinal) that makes a repeated call harmless. The domain is sent
once and then named by its digest, as rasa-sdk understands it.
"""

import asyncio
import contextvars
import hashlib
import time
from dataclasses import dataclass, field
from typing import Any, Dict, Optional

import aiohttp
import orjson
from rasa.utils.endpoints import ClientResponseError, EndpointConfig

from kefu import metrics
from kefu.privacy import mask_all

MAX_CONNECTIONS = 256
MAX_ANSWER_BYTES = 256 * 1024
FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 1.0
REHEARSED_REPLY = "utter_holding"  # any response that each model has
# The server is there but can't serve now; 500 is an action's own failure and is not repeated.
DOMAIN_WANTED = 449  # the server doesn't know the digest. Source: rasa-sdk 3.21, endpoint.py
_JSON = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
RETRIED_STATUS = frozenset({429, 502, 503, 504})


@dataclass
class ActionCalls:
    """What the calls of one turn share: their message, their end, and how many there were of each."""

    message_id: str
    deadline: float  # of the event loop's clock, in s
    made: Dict[str, int] = field(default_factory=dict)

    def key(self, action: str) -> str:
        """Return the idempotency key of the next call; the same again when the turn runs again."""
        ordinal = self.made.get(action, 0)
        self.made[action] = ordinal + 1
        return f"{self.message_id}:{action}:{ordinal}"


# Whether the turn under way is rehearsed: then nobody is called.
REHEARSED: "contextvars.ContextVar[bool]" = contextvars.ContextVar("kefu_rehearsed", default=False)
CALLS: "contextvars.ContextVar[Optional[ActionCalls]]" = contextvars.ContextVar("kefu_action_calls", default=None)


class ActionEndpoint(EndpointConfig):
    """Rasa's endpoint with a pool, a budget and idempotency keys.

    `request` has EndpointConfig's contract: the decoded JSON, ClientResponseError for a status of
    400 and more, aiohttp.ClientError when there was no answer.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        super().__init__(url=url)
        self._timeout_s = timeout_s
        self._pool: Optional[aiohttp.ClientSession] = None
        self._domain: Optional[Dict[str, Any]] = None  # the model's, always the same object
        self._digest = ""

    async def request(
        self,
        method: str = "post",
        subpath: Optional[str] = None,
        content_type: Optional[str] = "application/json",
        compress: bool = False,
        **kwargs: Any,
    ) -> Optional[Any]:
        """Call the action server; blocks until its answer or until the budget is used up."""
        body = kwargs["json"]
        calls = CALLS.get()
        headers = {"Content-Type": "application/json"}
        deadline = time.monotonic() + self._timeout_s
        if calls is not None:
            headers["Idempotency-Key"] = calls.key(body.get("next_action", ""))
            deadline = min(deadline, calls.deadline)
        data = self._encoded(body)
        if REHEARSED.get():
            return {"events": [], "responses": [{"response": REHEARSED_REPLY}]}
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
                    # RemoteAction knows ClientErrors only; a timeout must not pass for something else.
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

    async def _once(self, data: bytes, headers: Dict[str, str], deadline: float) -> Any:
        if self._pool is None or self._pool.closed:
            self._pool = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS))
        left_s = max(0.001, deadline - time.monotonic())
        async with self._pool.post(
            self.url, data=data, headers=headers, timeout=aiohttp.ClientTimeout(total=left_s)
        ) as answer:
            if answer.status >= 400:
                raise ClientResponseError(answer.status, answer.reason, await answer.content.read())
            body = await answer.content.read(MAX_ANSWER_BYTES + 1)
            while len(body) <= MAX_ANSWER_BYTES and not answer.content.at_eof():
                body += await answer.content.read(MAX_ANSWER_BYTES + 1 - len(body))
            if len(body) > MAX_ANSWER_BYTES:  # Kafka takes no record of more than 1 MB
                raise aiohttp.ClientPayloadError(f"more than {MAX_ANSWER_BYTES} bytes")
            return mask_all(orjson.loads(body))  # here the shop's data enters

    async def close(self) -> None:
        """Close the pool."""
        if self._pool is not None:
            await self._pool.close()
