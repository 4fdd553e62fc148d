"""`POST /v1/sessions`: a token for a guest, or for a customer whose id the shop has signed."""

import uuid
from typing import Optional

from sanic import Blueprint, HTTPResponse, Request

from kefu.events import GUEST_PREFIX, IDENTIFIER
from kefu.gateway.problems import Problem
from kefu.gateway.receive.auth import site_admits, vouched
from kefu.gateway.receive.requests import body_of, text_field
from kefu.gateway.responses import json_answer
from kefu.gateway.service import Gateway, gateway_of
from kefu.settings import TOKEN_LIFETIME_S

DEMO_TENANT = "demo"
DEMO_USERS = ("alice", "bob")
REFUSED = "tenant, site_key and user_hash do not fit together."

sessions = Blueprint("sessions")


@sessions.post("/v1/sessions")
async def open_session(request: Request) -> HTTPResponse:
    """201 with a token; 403 for wrong keys, without saying which key is wrong."""
    gateway = gateway_of(request)
    gateway.session_rate.take(request.client_ip)
    body = body_of(request)
    tenant, site_key = text_field(body, "tenant"), text_field(body, "site_key")
    if tenant is None or site_key is None:
        raise Problem("malformed", "tenant and site_key are needed.")
    user_id, user_hash = text_field(body, "user_id"), text_field(body, "user_hash")
    if (user_id is None) != (user_hash is None):
        raise Problem("malformed", "user_id and user_hash come together.")
    if user_id is not None:
        _check_user_id(user_id)
    if not site_admits(gateway.settings.tenants, tenant, site_key):
        raise Problem("session-refused", REFUSED)
    if user_id is not None and not vouched(gateway.settings.tenants[tenant], user_id, user_hash or ""):
        raise Problem("session-refused", REFUSED)
    return _opened(gateway, tenant, user_id)


@sessions.post("/v1/demo-sessions")
async def open_demo_session(request: Request) -> HTTPResponse:
    """201 with a demo customer's token, which needs no secret; 404 unless KEFU_DEMO_LOGIN is 1."""
    gateway = gateway_of(request)
    if not gateway.settings.demo_login or DEMO_TENANT not in gateway.settings.tenants:
        raise Problem("not-found")
    gateway.session_rate.take(request.client_ip)
    user_id = text_field(body_of(request), "user_id")
    if user_id not in DEMO_USERS:
        raise Problem("session-refused", f"The demo customers are {' and '.join(DEMO_USERS)}.")
    return _opened(gateway, DEMO_TENANT, user_id)


def _check_user_id(user_id: str) -> None:
    if not IDENTIFIER.fullmatch(user_id):
        raise Problem("malformed", f"user_id must match {IDENTIFIER.pattern}.")
    if user_id.startswith(GUEST_PREFIX):
        raise Problem("user-id-reserved", f"Ids that start with {GUEST_PREFIX} are those of guests.")


def _opened(gateway: Gateway, tenant: str, user_id: Optional[str]) -> HTTPResponse:
    user = user_id or GUEST_PREFIX + uuid.uuid4().hex
    token = gateway.tokens.mint(tenant, user)
    body = {"token": token, "tenant_id": tenant, "user_id": user, "expires_in": TOKEN_LIFETIME_S}
    return json_answer(body, 201)
