"""Authentication of the desk's agents by tokens.

The shop's own backend signs them with a secret that customers' tokens never use.

A token is a JWT (HS256) with the claims `sub` (the agent), `tenant`, `role`, `aud` and `exp`, and optionally `name`,
the agent's name for customers. A tenant without a desk secret has no desk.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Mapping, Optional

import jwt

from kefu.events import IDENTIFIER
from kefu.gateway.problems import Problem
from kefu.gateway.receive.auth import ALGORITHM, CLOCK_SKEW_S, unverified
from kefu.privacy import mask
from kefu.settings import Tenant

AUDIENCE = "kefu-desk"
VIEWER, AGENT = "viewer", "agent"
MAX_NAME_CHARS = 64  # limits an agent's name; a token with a longer name is refused


@dataclass(frozen=True)
class Person:
    """The agent that a valid desk token names. `name` is shown to customers; empty shows no name."""

    tenant: str
    agent: str
    role: str
    name: str = ""

    @cached_property
    def slot(self) -> str:
        """The key that this person's requests are counted under; a space keeps it apart from conversations' keys."""
        return f"desk {self.tenant}:{self.agent}"

    def must_act(self) -> None:
        """Raise Problem 403 unless the role is `agent`."""
        if self.role != AGENT:
            raise Problem("forbidden", f"This needs the role {AGENT}.")


class DeskTokens:
    """Verifies desk tokens. It caches none of them, because the desk sends few requests."""

    def __init__(self, tenants: Mapping[str, Tenant]) -> None:
        self._tenants = tenants

    def verify(self, authorization: Optional[str]) -> Person:
        """Return the person that an `Authorization` header names.

        Raises:
            Problem: 401, without the reason why the token is invalid.
        """
        scheme, _, token = (authorization or "").partition(" ")
        try:
            if scheme.lower() == "bearer":
                return self._person(token.strip())
        except (jwt.PyJWTError, ValueError, TypeError, LookupError, RecursionError):
            pass
        raise Problem("unauthorized", "A token of the desk is needed.", {"WWW-Authenticate": "Bearer"})

    def _person(self, token: str) -> Person:
        tenant = self._tenants[unverified(token)["tenant"]]
        if not tenant.desk_secret:
            raise ValueError("a tenant without a desk")
        claims = jwt.decode(
            token,
            tenant.desk_secret,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            leeway=CLOCK_SKEW_S,
            options={"require": ["exp", "sub", "tenant", "role", "aud"]},
        )
        return _checked(claims, tenant.name)


def _checked(claims: Mapping[str, Any], tenant: str) -> Person:
    agent, role, name = claims["sub"], claims["role"], claims.get("name", "")
    if claims["tenant"] != tenant or not IDENTIFIER.fullmatch(agent) or role not in (VIEWER, AGENT):
        raise ValueError("claims do not fit")
    if not isinstance(name, str) or len(name) > MAX_NAME_CHARS or (name and not name.isprintable()):
        raise ValueError("name does not fit")
    return Person(tenant, agent, role, mask(name))
