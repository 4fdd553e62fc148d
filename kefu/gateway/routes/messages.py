"""`POST /v1/messages` and `GET /v1/messages/{id}`: accept a message into Kafka, and return its outcome."""

from typing import Dict
from urllib.parse import quote

from sanic import Blueprint, HTTPResponse, Request

from kefu.events import MESSAGE_ID
from kefu.gateway.problems import Problem
from kefu.gateway.receive import requests
from kefu.gateway.receive.auth import Caller
from kefu.gateway.responses import json_answer
from kefu.gateway.service import Gateway, caller_of, gateway_of

messages = Blueprint("messages")


@messages.post("/v1/messages")
async def accept(request: Request) -> HTTPResponse:
    """Accept a message: 202 once Kafka has acknowledged it; with `Prefer: wait` 200 if the outcome comes in time."""
    gateway, caller = gateway_of(request), caller_of(request)
    gateway.user_rate.take(caller.conversation)
    said = requests.user_said(request, caller)
    wait_s = requests.wait_s(request, gateway.settings.wait_limit_s)
    outcome = await gateway.ask(said, wait_s)
    headers = {"Preference-Applied": f"wait={wait_s:.0f}"} if wait_s else {}
    if outcome:
        return json_answer(outcome.body(), 200, headers)
    return _queued(gateway, caller, said.message_id, 202, headers)


@messages.get("/v1/messages/<message_id:str>", unquote=True)
async def look_up(request: Request, message_id: str) -> HTTPResponse:
    """Return the outcome of a message; `queued` if it has none yet and the receipt is valid; otherwise 404."""
    gateway, caller = gateway_of(request), caller_of(request)
    if not MESSAGE_ID.fullmatch(message_id):
        raise Problem("malformed", f"message_id must match {MESSAGE_ID.pattern}.")
    outcome = await gateway.store.outcome(caller.conversation, message_id)
    if outcome:
        return json_answer(outcome.body(), 200)
    receipt = request.args.get("receipt", "")
    if not gateway.receipts.valid(caller, message_id, receipt):
        raise Problem("not-found", "No message of this id is known of you, or its receipt has expired.")
    return json_answer({"message_id": message_id, "status": "queued"}, 200)


def _queued(gateway: Gateway, caller: Caller, message_id: str, status: int, headers: Dict[str, str]) -> HTTPResponse:
    """Return the answer for an accepted message without an outcome yet, with the link at which to ask for it."""
    link = f"/v1/messages/{quote(message_id, safe='')}?receipt={gateway.receipts.issue(caller, message_id)}"
    body = {"message_id": message_id, "status": "queued", "links": {"self": link}}
    return json_answer(body, status, {**headers, "Location": link})
