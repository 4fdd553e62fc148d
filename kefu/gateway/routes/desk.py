"""`/v1/desk/`: list the hand-overs, take a conversation, read it, answer, give it back.

A request that changes a conversation goes to the worker through `user.query`, as a customer's message does, and waits
for its outcome. Every such request may be sent again under the same id. All calls need a desk token.
"""

import asyncio
import json
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple, Type

from sanic import Blueprint, HTTPResponse, Request

from kefu.events import (
    IDENTIFIER,
    AgentSaid,
    AuditEntry,
    DeskEvent,
    HandoffEnded,
    HandoffTaken,
    conversation_key,
    derived_id,
)
from kefu.gateway.answer.hints import until_poll
from kefu.gateway.answer.replies import Outcome, wait_for_outcome
from kefu.gateway.answer.transcripts import Transcript, brief
from kefu.gateway.problems import Problem
from kefu.gateway.receive import requests
from kefu.gateway.receive.desk_auth import Person
from kefu.gateway.receive.requests import seq_of
from kefu.gateway.responses import json_answer
from kefu.gateway.service import Gateway, gateway_of
from kefu.privacy import mask

OUTCOME_S = 10.0  # longest wait for the outcome of a turn; after it the reply is `queued`, and the client asks again
MAX_SHOWN = 100  # limits the hand-overs of one list; `more` says that there are others
# The values of the parameter `status` of a list: a status of hand-overs, or `mine` for those that the caller has taken.
STATUSES = ("waiting", "taken", "mine")
AUDITED = {HandoffTaken: "handoff.take", AgentSaid: "handoff.say", HandoffEnded: "handoff.end"}
READ = "handoff.read"
OPENAPI = json.loads((Path(__file__).parent / "desk_openapi.json").read_text(encoding="utf-8"))

desk = Blueprint("desk", url_prefix="/v1/desk")


@desk.get("/openapi.json")
async def describe(_: Request) -> HTTPResponse:
    """Return the OpenAPI description of the desk's API."""
    return json_answer(OPENAPI)


@desk.get("/conversations")
async def listing(request: Request) -> HTTPResponse:
    """The hand-overs of the tenant with their summaries, the oldest first."""
    gateway, person = _authenticated(request)
    status = request.args.get("status", STATUSES[0])
    if status not in STATUSES:
        raise Problem("malformed", f"status is one of {', '.join(STATUSES)}.")
    handoffs = [each for each in await gateway.desk.listed(person.tenant) if _wanted(each, status, person)]
    body = {"conversations": list(map(brief, handoffs[:MAX_SHOWN])), "more": len(handoffs) > MAX_SHOWN}
    return json_answer(body)


@desk.get("/conversations/<user:str>", unquote=True)
async def read(request: Request, user: str) -> HTTPResponse:
    """A handed-over conversation, from a version on; with `Prefer: wait` it waits for new messages."""
    gateway, person = _authenticated(request)
    after, wait_s = seq_of(request.args.get("after")), requests.wait_s(request, gateway.settings.wait_limit_s)
    handoff, transcript = await _read_within(gateway, person, _user(user), after, wait_s)
    if transcript.messages:
        entry = AuditEntry(person.tenant, user, person.agent, READ, handoff["handoff"], {"after": after})
        await gateway.acceptance.audit(entry)
    return json_answer({"user": user, **handoff, "messages": transcript.messages, "version": transcript.version})


@desk.post("/conversations/<user:str>/take", unquote=True)
async def take(request: Request, user: str) -> HTTPResponse:
    """Take the conversation; 409 if another agent has it, or if it was not handed over."""
    return await _ask(_asked(request, user), HandoffTaken)


@desk.post("/conversations/<user:str>/messages", unquote=True)
async def say(request: Request, user: str) -> HTTPResponse:
    """Send a message to the customer; 409 if the caller doesn't have the conversation."""
    asked = _asked(request, user)
    text = requests.text_field(asked.body, "text")
    if text is None:
        raise Problem("malformed", "text is needed.")
    requests.check_text(text)
    return await _ask(asked, AgentSaid, text=mask(text), name=asked.person.name)


@desk.post("/conversations/<user:str>/return", unquote=True)
async def give_back(request: Request, user: str) -> HTTPResponse:
    """Give the conversation back to the assistant; 409 if the caller doesn't have it."""
    return await _ask(_asked(request, user), HandoffEnded)


class _Asked(NamedTuple):
    """A request for a change, by a person with the role `agent`."""

    gateway: Gateway
    person: Person
    user: str
    body: Dict[str, Any]
    handoff: str
    message_id: str
    traceparent: str

    def event(self, kind: Type[DeskEvent], **fields: Any) -> DeskEvent:
        """Return the event for the worker; a repeated request gives the same event id."""
        tenant, agent = self.person.tenant, self.person.agent
        event_id = derived_id(kind.__name__, tenant, self.user, agent, self.message_id)
        return kind(tenant, self.user, event_id, self.handoff, agent, traceparent=self.traceparent, **fields)


def _asked(request: Request, user: str) -> _Asked:
    """Return the checked request. Raises Problem for a missing role or a malformed request."""
    gateway, person = _authenticated(request)
    person.must_act()
    body = requests.body_of(request)
    handoff = requests.text_field(body, "handoff")
    if handoff is None or not IDENTIFIER.fullmatch(handoff):
        raise Problem("malformed", "handoff is needed: the id that the list tells.")
    message_id = requests.message_id(request, body)
    return _Asked(gateway, person, _user(user), body, handoff, message_id, requests.traceparent(request))


def _authenticated(request: Request) -> Tuple[Gateway, Person]:
    """Return the gateway, and the person that the desk token names. Raises Problem 401, or 429 beyond the rate."""
    gateway = gateway_of(request)
    person = gateway.desk_tokens.verify(request.headers.get("authorization"))
    gateway.desk_rate.take(person.slot)
    return gateway, person


def _user(user: str) -> str:
    if not IDENTIFIER.fullmatch(user):
        raise Problem("not-found")
    return user


def _wanted(handoff: Dict[str, Any], status: str, person: Person) -> bool:
    return handoff["agent"] == person.agent if status == "mine" else handoff["status"] == status


async def _read_within(
    gateway: Gateway, person: Person, user: str, after: int, wait_s: float
) -> Tuple[Dict[str, Any], Transcript]:
    """Return the hand-over and its messages after a version, as soon as there are any or `wait_s` are over."""
    if not wait_s or gateway.hub.closed:
        return await _read(gateway, person, user, after)
    now = asyncio.get_running_loop().time
    end = now() + wait_s
    with gateway.slots.hold(person.slot), gateway.hub.watch(conversation_key(person.tenant, user)) as watch:
        while True:
            handoff, transcript = await _read(gateway, person, user, after)
            if transcript.messages or now() >= end or gateway.hub.closed:
                return handoff, transcript
            await watch.wait(until_poll(now(), end - now()))


async def _read(gateway: Gateway, person: Person, user: str, after: int) -> Tuple[Dict[str, Any], Transcript]:
    handoff = await gateway.desk.handoff(person.tenant, user)
    if handoff is None:
        raise Problem("not-found", "Nobody handed this conversation over, or it is the assistant's again.")
    return handoff, await gateway.desk.transcript(person.tenant, user, after)


async def _ask(asked: _Asked, kind: Type[DeskEvent], **fields: str) -> HTTPResponse:
    """Have the worker apply a change to a hand-over, and answer the request with the outcome."""
    event = asked.event(kind, **fields)
    outcome = await _known(asked.gateway, event) or await _sent(asked.gateway, asked.person, event)
    return _response(outcome, asked.message_id)


async def _known(gateway: Gateway, event: DeskEvent) -> Optional[Outcome]:
    """Return the outcome of a request that was sent before, None for a new request.

    Raises:
        Problem: 409, the request is new and its hand-over has ended. The worker would refuse it, so it is not asked.
    """
    outcome = await gateway.store.outcome(event.conversation, event.message_id)
    if outcome:
        return outcome
    standing = await gateway.desk.handoff(event.tenant, event.user)
    if standing is None or standing["handoff"] != event.handoff:
        raise _refused("handoff_ended")
    return None


async def _sent(gateway: Gateway, person: Person, event: DeskEvent) -> Optional[Outcome]:
    """Write the audit entry, then send the event and wait for its outcome; None when it did not come in time."""
    details = {"event": event.id}  # the `cause` of the AnswerGenerated that has the outcome
    entry_id = derived_id("AuditEntry", event.id)
    entry = AuditEntry(
        event.tenant, event.user, person.agent, AUDITED[type(event)], event.handoff, details, entry_id, event.ts
    )
    with gateway.slots.hold(person.slot), gateway.hub.watch(event.conversation) as watch:
        await gateway.acceptance.audit(entry)
        await gateway.acceptance.put(event)
        return await wait_for_outcome(gateway.store, gateway.hub, watch, event, OUTCOME_S)


def _response(outcome: Optional[Outcome], message_id: str) -> HTTPResponse:
    if outcome is None:
        return json_answer({"message_id": message_id, "status": "queued"}, 202)
    if outcome.status == "refused":
        raise _refused(outcome.reason or "")
    if outcome.status == "failed":
        raise Problem("desk-failed", "It was put aside for the operators.")
    return json_answer({"message_id": message_id, "status": "done", "replies": outcome.replies})


def _refused(reason: str) -> Problem:
    return Problem(reason.replace("_", "-"))
