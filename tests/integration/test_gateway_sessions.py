"""Sessions and tokens: which keys open a session, and which tokens are accepted."""

import base64
import itertools
import json
import time

import jwt
import pytest

from tests.integration.gateway_kit import TENANTS, bearer, serve, settings, user_hash

pytestmark = pytest.mark.asyncio
GUEST = {"tenant": "demo", "site_key": "demo-site"}


def claims(**changes):
    content = {"sub": "alice", "tenant": "demo", "iat": int(time.time()), "exp": int(time.time()) + 60, **changes}
    return {name: value for name, value in content.items() if value is not None}


def signed(secret=TENANTS["demo"].token_secret, algorithm="HS256", **changes):
    return jwt.encode(claims(**changes), secret, algorithm=algorithm)


def unsigned(header):
    parts = (json.dumps(part).encode() for part in (header, claims()))
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts).decode() + "."


async def test_each_guest_gets_a_token_and_a_new_id(served):
    first = (await served.client.post("/v1/sessions", json=GUEST)).json()
    second = (await served.client.post("/v1/sessions", json=GUEST)).json()
    assert first["tenant_id"] == "demo" and first["expires_in"] == 86400
    assert first["user_id"].startswith("guest-") and len(first["user_id"]) == 38
    assert first["user_id"] != second["user_id"]


async def test_a_customer_with_the_shops_signature_is_identified(served):
    await served.say(await served.token("alice"))
    await served.say(await served.token())
    assert [(said.user == "alice", said.identified) for said in served.inbox.said] == [(True, True), (False, False)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"site_key": "wrong"},
        {"site_key": ""},
        {"tenant": "nobody"},
        {"tenant": "nobody", "site_key": ""},
        {"tenant": "other"},
        {"user_id": "alice", "user_hash": "0" * 64},
        {"user_id": "alice", "user_hash": "é"},
        {"user_id": "alice", "user_hash": user_hash("bob")},
        {"user_id": "alice", "user_hash": user_hash("alice", "other")},
    ],
)
async def test_wrong_site_keys_and_signatures_get_the_same_403(served, wrong):
    answer = await served.client.post("/v1/sessions", json={**GUEST, **wrong})
    right = await served.client.post("/v1/sessions", json={**GUEST, "site_key": "x"})
    assert answer.status_code == 403
    assert answer.content == right.content


@pytest.mark.parametrize(
    "body",
    [{}, {"tenant": "demo"}, {**GUEST, "site_key": 1}, {**GUEST, "user_id": "alice"}]
    + [
        {**GUEST, "user_id": bad, "user_hash": user_hash(bad)} for bad in ("", "a:b", "a b", "x" * 129, "爱丽丝", "a\n")
    ],
)
async def test_malformed_session_request_is_400(served, body):
    answer = await served.client.post("/v1/sessions", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_a_guests_id_is_refused_for_a_known_customer(served):
    user = "guest-" + "0" * 32
    answer = await served.client.post("/v1/sessions", json={**GUEST, "user_id": user, "user_hash": user_hash(user)})
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:kefu:problem:user-id-reserved")


async def test_a_token_minted_by_the_shops_backend_is_accepted(served):
    assert (await served.say(signed(iat=None))).status_code == 202
    assert served.inbox.keys == ["demo:alice"]


@pytest.mark.parametrize(
    "token",
    [
        signed(exp=int(time.time()) - 60),
        signed(exp=None),
        signed(exp="never"),
        signed(sub=None),
        signed(sub="a:b"),
        signed(sub=""),
        signed(tenant=None),
        signed(tenant="nobody"),
        signed(tenant="other"),
        signed(tenant=["demo"]),
        signed(secret="x" * 40),
        signed(secret="x" * 70, algorithm="HS512"),
        signed(secret=TENANTS["demo"].token_secret + "-and-more-so-that-it-is-long-enough-for-512", algorithm="HS512"),
        signed(nbf=int(time.time()) + 600),
        unsigned({"alg": "none", "typ": "JWT"}),
        unsigned({"alg": "HS256", "typ": "JWT"}),
        "x",
        "a.b.c",
        "a." + base64.urlsafe_b64encode(b"[" * 900).decode() + ".c",
    ],
)
async def test_an_invalid_token_is_401(served, token):
    """Forged, expired, malformed, or signed with another tenant's secret."""
    for path in ("/v1/replies", "/v1/stream", "/v1/messages/m1"):
        answer = await served.client.get(path, headers=bearer(token))
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert (await served.say(token)).status_code == 401
    assert not served.inbox.said


async def test_a_missing_token_or_another_scheme_is_401(served):
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}, {"Authorization": signed()}):
        assert (await served.client.get("/v1/replies", headers=headers)).status_code == 401


async def test_demo_sessions_are_404_without_demo_login(served, valkey):
    assert (await served.client.post("/v1/demo-sessions", json={"user_id": "alice"})).status_code == 404
    async with serve(valkey.settings, settings(demo_login=True)) as demo:
        answer = await demo.client.post("/v1/demo-sessions", json={"user_id": "alice"})
        assert (answer.status_code, answer.json()["user_id"]) == (201, "alice")
        assert (await demo.client.post("/v1/demo-sessions", json={"user_id": "carol"})).status_code == 403


async def test_sessions_of_one_address_are_rate_limited(valkey):
    async with serve(valkey.settings, settings(session_rate=1)) as limited:
        calls = itertools.count()  # a clock of the test: on a slow machine the bucket would fill between calls
        limited.app.ctx.gateway.session_rate._clock = lambda: next(calls) / 1000
        codes = [(await limited.client.post("/v1/sessions", json=GUEST)).status_code for _ in range(4)]
        assert codes[:2] == [201, 201] and codes[-1] == 429
