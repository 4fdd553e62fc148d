"""Authentication of customers: session tokens, the shop's signature of a customer's id, receipts of accepted messages.

A token is a JWT (HS256). The gateway or the shop's own backend signs it with the tenant's secret. The token alone
decides which user sends a request.
"""

import base64
import hashlib
import hmac
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Callable, Mapping, Optional, Tuple

import jwt
import orjson

from kefu.events import GUEST_PREFIX, IDENTIFIER, conversation_key
from kefu.gateway.problems import Problem
from kefu.settings import MARKER_LIFETIME_S, TOKEN_LIFETIME_S, Tenant

ALGORITHM = "HS256"
CLOCK_SKEW_S = 10  # tolerated difference between the clocks of the gateway and the shop's backend
MAX_VERIFIED = 20_000  # limits the cached tokens, about 600 bytes each; beyond it the least recently used token goes
Clock = Callable[[], float]


@dataclass(frozen=True)
class Caller:
    """The user that a valid token names, until `expires_at` (s since the epoch)."""

    tenant: str
    user: str
    expires_at: float

    @cached_property
    def identified(self) -> bool:
        """Whether the user is a customer whose id the shop has signed, not a guest."""
        return not self.user.startswith(GUEST_PREFIX)

    @cached_property
    def conversation(self) -> str:
        """The key of the conversation, `tenant:user`."""
        return conversation_key(self.tenant, self.user)


class Tokens:
    """Mints and verifies session tokens.

    The signature of a token is checked once: the last MAX_VERIFIED tokens are cached by their digest, with the tenant
    whose secret signed them. Expiry is checked each time. When a tenant is replaced (a new secret) or removed, its
    tokens become unknown at once. See ops/decisions/0009.
    """

    def __init__(self, tenants: Mapping[str, Tenant], clock: Clock = time.time) -> None:
        self._tenants = tenants
        self._clock = clock
        self._verified: OrderedDict[bytes, Tuple[Tenant, Caller]] = OrderedDict()

    def mint(self, tenant: str, user: str) -> str:
        """Return a token for `user` that is valid for TOKEN_LIFETIME_S."""
        now = int(self._clock())
        claims = {"sub": user, "tenant": tenant, "iat": now, "exp": now + TOKEN_LIFETIME_S}
        return jwt.encode(claims, self._tenants[tenant].token_secret, algorithm=ALGORITHM)

    def verify(self, authorization: Optional[str]) -> Caller:
        """Return the caller that an `Authorization` header names.

        Raises:
            Problem: 401, without the reason why the token is invalid.
        """
        scheme, _, token = (authorization or "").partition(" ")
        try:
            if scheme.lower() == "bearer":
                return self._caller(token.strip())
        except (jwt.PyJWTError, ValueError, TypeError, LookupError, OverflowError, RecursionError):
            pass
        raise Problem("unauthorized", "Open a session to get a token.", {"WWW-Authenticate": "Bearer"})

    def _caller(self, token: str) -> Caller:
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known(digest)
        if known is not None:
            return known
        # The claim `tenant` is not verified yet. It only selects the tenant whose secret then verifies the token.
        tenant = self._tenants[unverified(token)["tenant"]]
        caller = self._checked(token, tenant)
        self._verified[digest] = (tenant, caller)
        if len(self._verified) > MAX_VERIFIED:
            self._verified.popitem(last=False)
        return caller

    def _known(self, digest: bytes) -> Optional[Caller]:
        """Return the caller of a token that was verified before; None if it is not cached or its tenant changed."""
        tenant, caller = self._verified.get(digest, (None, None))
        if tenant is None or caller is None:
            return None
        if self._tenants.get(tenant.name) is not tenant:
            del self._verified[digest]
            return None
        if self._clock() >= caller.expires_at + CLOCK_SKEW_S:
            del self._verified[digest]
            raise jwt.ExpiredSignatureError
        self._verified.move_to_end(digest)
        return caller

    @staticmethod
    def _checked(token: str, tenant: Tenant) -> Caller:
        """Return the caller in a token, after a check of signature, expiry and claims. Raises if one is wrong."""
        claims = jwt.decode(
            token,
            tenant.token_secret,
            algorithms=[ALGORITHM],
            leeway=CLOCK_SKEW_S,
            options={"require": ["exp", "sub", "tenant"]},
        )
        user = claims["sub"]
        if claims["tenant"] != tenant.name or not IDENTIFIER.fullmatch(user):
            raise ValueError("claims do not fit")
        return Caller(tenant.name, user, float(int(claims["exp"])))  # whole seconds, as PyJWT reads it


def unverified(token: str) -> Any:
    """Return a token's claims without checking its signature; raises various errors for a malformed token."""
    payload = token.split(".")[1]
    return orjson.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


def site_admits(tenants: Mapping[str, Tenant], name: str, site_key: str) -> bool:
    """Return whether tenant `name` has this `site_key`; compares in constant time."""
    tenant = tenants.get(name)
    expected = tenant.site_key if tenant else ""
    fits = hmac.compare_digest(expected.encode(), site_key.encode())
    return fits and tenant is not None


def vouched(tenant: Tenant, user_id: str, user_hash: str) -> bool:
    """Return whether `user_hash` is the hex HMAC-SHA256 of `user_id` under the shop's identity secret."""
    expected = hmac.new(tenant.identity_secret.encode(), user_id.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), user_hash.lower().encode())


class Receipts:
    """Signed proofs that a message was accepted. Any replica of the gateway can check a receipt; none is stored."""

    def __init__(self, secret: str, clock: Clock = time.time) -> None:
        self._secret = secret.encode()
        self._clock = clock

    def issue(self, caller: Caller, message_id: str) -> str:
        """Return a receipt for a message accepted now; it is valid for as long as a marker lives."""
        accepted = str(int(self._clock()))
        return f"{accepted}.{self._signature(caller, message_id, accepted)}"

    def valid(self, caller: Caller, message_id: str, receipt: str) -> bool:
        """Return whether `receipt` was issued for this message of this user and has not expired."""
        accepted, _, signature = receipt.partition(".")
        expected = self._signature(caller, message_id, accepted)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            return False
        return self._clock() - int(accepted) <= MARKER_LIFETIME_S

    def _signature(self, caller: Caller, message_id: str, accepted: str) -> str:
        signed = "\x1f".join(("receipt", caller.tenant, caller.user, message_id, accepted))
        return hmac.digest(self._secret, signed.encode(), "sha256").hex()
