"""A token's signature is checked once, and the cache accepts no token that a new check would refuse."""

import time
from dataclasses import replace

import jwt
import pytest

from kefu.gateway.problems import Problem
from kefu.gateway.receive import auth
from kefu.gateway.receive.auth import CLOCK_SKEW_S, Tokens
from kefu.settings import Tenant

DEMO = Tenant("demo", "site", "identity", "a-token-secret-of-at-least-32-bytes")


@pytest.fixture
def checks(monkeypatch):
    """A list with one entry for each checked signature."""
    counted, decode = [], jwt.decode
    monkeypatch.setattr(auth.jwt, "decode", lambda *given, **named: counted.append(1) or decode(*given, **named))
    return counted


def user_of(tokens, token):
    """Return the user that the token names, None if the token is refused."""
    try:
        return tokens.verify(f"Bearer {token}").user
    except Problem as problem:
        assert problem.kind == "unauthorized"
        return None


def test_signature_of_a_token_is_checked_once(checks):
    tokens = Tokens({"demo": DEMO})
    alice, bob = tokens.mint("demo", "alice"), tokens.mint("demo", "bob")
    assert [user_of(tokens, token) for token in (alice, bob, alice, bob)] == ["alice", "bob"] * 2
    assert len(checks) == 2


def test_a_cached_token_still_expires():
    now = [time.time()]
    tokens = Tokens({"demo": DEMO}, lambda: now[0])
    token = tokens.mint("demo", "alice")
    expires_at = tokens.verify(f"Bearer {token}").expires_at
    now[0] = expires_at + CLOCK_SKEW_S - 1
    assert user_of(tokens, token) == "alice"
    now[0] += 1
    assert user_of(tokens, token) is None and not tokens._verified


def test_replacing_or_removing_a_tenant_refuses_cached_tokens():
    tenants = {"demo": DEMO}
    tokens = Tokens(tenants)
    token = tokens.mint("demo", "alice")
    assert user_of(tokens, token) == "alice"
    tenants["demo"] = replace(DEMO, token_secret="another-secret-of-at-least-32-bytes")
    assert user_of(tokens, token) is None
    tenants["demo"] = DEMO
    assert user_of(tokens, token) == "alice"
    del tenants["demo"]
    assert user_of(tokens, token) is None and not tokens._verified


def test_refused_tokens_are_not_cached(checks):
    tokens = Tokens({"demo": DEMO})
    forged = tokens.mint("demo", "alice")[:-2] + "xx"
    assert [user_of(tokens, forged) for _ in range(3)] == [None] * 3
    assert len(checks) == 3 and not tokens._verified


def test_the_cache_keeps_the_most_recently_used_tokens(monkeypatch, checks):
    monkeypatch.setattr(auth, "MAX_VERIFIED", 2)
    tokens = Tokens({"demo": DEMO})
    a, b, c = (tokens.mint("demo", name) for name in "abc")
    for token in (a, b, a, c, a):
        assert user_of(tokens, token)
    assert len(checks) == 3 and len(tokens._verified) == 2
    assert user_of(tokens, b) == "b" and len(checks) == 4


def test_the_cache_holds_digests_and_no_tokens():
    tokens = Tokens({"demo": DEMO})
    token = tokens.mint("demo", "alice")
    tokens.verify(f"Bearer {token}")
    assert token not in repr(tokens._verified) and token.rpartition(".")[2] not in repr(tokens._verified)
