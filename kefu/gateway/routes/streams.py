"""`GET /v1/replies` returns the stored replies after a sequence number, `GET /v1/stream` also sends those to come."""

import asyncio
import time
from typing import Awaitable, Callable, Set

import orjson
from sanic import Blueprint, HTTPResponse, Request

from kefu.errors import StoreUnavailable
from kefu.gateway.answer.hints import MAX_HINTED, Watch, until_poll
from kefu.gateway.answer.replies import PAGE
from kefu.gateway.problems import Problem
from kefu.gateway.receive.auth import Caller
from kefu.gateway.receive.requests import seq_of
from kefu.gateway.responses import Answer
from kefu.gateway.service import Gateway, caller_of, gateway_of

_HEADERS = {"Cache-Control": "no-cache, no-store", "X-Accel-Buffering": "no"}
RECONNECT_MS = 1000  # how long a browser waits before it opens a broken stream again

streams = Blueprint("streams")


@streams.get("/v1/replies")
async def replies(request: Request) -> HTTPResponse:
    """Up to PAGE replies after `after` (default 0), oldest first."""
    gateway, caller = gateway_of(request), caller_of(request)
    page = await gateway.store.after(caller.conversation, seq_of(request.args.get("after")))
    body = b'{"replies":[' + b",".join(reply for _, reply in page) + b"]}"
    return Answer(body, 200, None, "application/json")


@streams.get("/v1/stream")
async def stream(request: Request) -> None:
    """Server-sent events until the client goes, the token expires or the process stops."""
    gateway, caller = gateway_of(request), caller_of(request)
    after = seq_of(request.headers.get("last-event-id") or request.args.get("after"))
    if gateway.draining:
        raise Problem("unavailable", "Connect again.", {"Retry-After": "1"})
    with gateway.slots.hold(caller.conversation):
        response = await request.respond(Answer(None, 200, _HEADERS, "text/event-stream; charset=utf-8"))
        await response.send(b"retry: %d\n\n" % RECONNECT_MS)
        with gateway.hub.watch(caller.conversation) as watch:
            await _Stream(gateway, caller, watch, response.send, after).run()
        await response.eof()


class _Stream:
    """The event stream of one client.

    It reads a page of replies only after the client has taken the page before, so that no pages pile up in memory.
    """

    def __init__(
        self, gateway: Gateway, caller: Caller, watch: Watch, send: Callable[[bytes], Awaitable[None]], after: int
    ) -> None:
        self._gateway = gateway
        self._caller = caller
        self._watch = watch
        self._send = send
        self._after = after
        self._unlooked: Set[str] = set()  # messages that a hint has named and whose outcomes are not read yet
        self._now = asyncio.get_running_loop().time
        self._beat_at = self._now() + gateway.settings.heartbeat_s

    async def run(self) -> None:
        """Send the stored replies, then new ones as they come."""
        while not self._gateway.hub.closed and time.time() < self._caller.expires_at:
            try:
                if await self._send_page():
                    continue
            except StoreUnavailable:
                pass  # the client keeps its connection, and the next read goes on from `_after`: no reply is lost
            await self._beat()
            now = self._now()
            hinted = await self._watch.wait(until_poll(now, max(0.01, self._beat_at - now)))
            self._unlooked.update(list(hinted)[: MAX_HINTED - len(self._unlooked)])

    async def _send_page(self) -> bool:
        """Send a page, and with the last page the hinted failures; return whether another page may be stored.

        A failure is sent without `id`, because it has no sequence number.
        """
        page, outcomes = await self._gateway.store.news(self._caller.conversation, self._after, list(self._unlooked))
        if page:
            await self._write(b"".join(b"id: %d\nevent: reply\ndata: %b\n\n" % entry for entry in page))
            self._after = page[-1][0]
        if len(page) == PAGE:
            return True
        self._unlooked.clear()
        for outcome in outcomes:
            if outcome.status == "failed":
                await self._write(b"event: failed\ndata: %b\n\n" % orjson.dumps(outcome.body()))
        return False

    async def _beat(self) -> None:
        if self._now() >= self._beat_at:
            await self._write(b":\n\n")

    async def _write(self, data: bytes) -> None:
        await self._send(data)  # waits while the client's buffer is full
        self._beat_at = self._now() + self._gateway.settings.heartbeat_s
