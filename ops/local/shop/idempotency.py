"""One effect for each Idempotency-Key: the answer is stored with the effect, and returned to a repeated request."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import RowMapping, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ops.local.shop.models import Answered
from ops.local.shop.store import Store

KEPT_S = 7 * 24 * 3600
CLEANED_EVERY_S = 3600.0


class KeyReused(Exception):
    """The caller used this key for another request."""


@dataclass(frozen=True)
class Asked:
    """A request for an effect. Keys are unique for each tenant and caller, so that two callers can't collide."""

    tenant: str
    caller: str
    key: str
    fingerprint: str


@dataclass(frozen=True)
class Answer:
    """Status and body of a response."""

    status: int
    body: bytes


Effect = Callable[[AsyncConnection], Awaitable[Answer]]


def fingerprint(method: str, path: str, body: dict[str, Any]) -> str:
    """Return the hash of a request. Spaces and the order of the body's fields don't change it."""
    request = f"{method} {path}\n".encode() + orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(request).hexdigest()


class Answers:
    """The stored answers of the last seven days."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cleaned_at = 0.0

    async def stored(self, asked: Asked) -> Answer | None:
        """Return the answer stored under this key, or None. Raises KeyReused."""
        async with self._store.reading() as connection:
            result = await connection.execute(select(Answered.__table__).where(_same_key(asked)))
            row = result.mappings().one_or_none()
        return _again(asked, row) if row and row["at"] > self._oldest() else None

    async def once(self, asked: Asked, effect: Effect) -> Answer:
        """Run the effect and return its answer, or return the stored answer.

        Of two concurrent calls with one key, the second waits and gets the first one's answer. An exception of the
        effect rolls everything back, also the key. Raises KeyReused.
        """
        await self._clean()
        async with self._store.writing() as connection:
            if not await self._claim(connection, asked):
                result = await connection.execute(select(Answered.__table__).where(_same_key(asked)))
                return _again(asked, result.mappings().one())
            answer = await effect(connection)
            stored = update(Answered).where(_same_key(asked)).values(status=answer.status, body=answer.body)
            await connection.execute(stored)
        return answer

    async def _claim(self, connection: AsyncConnection, asked: Asked) -> bool:
        """Return whether the key was free or expired, and take it. Waits while another transaction has the key."""
        names = {"tenant": asked.tenant, "caller": asked.caller, "key": asked.key}
        values = {"fingerprint": asked.fingerprint, "status": 0, "body": b"", "at": self._store.clock()}
        claim = self._store.insert(Answered).values(**names, **values).on_conflict_do_update(
            index_elements=list(names), set_=values, where=Answered.at <= self._oldest()
        )  # fmt: skip
        return (await connection.execute(claim)).rowcount == 1

    def _oldest(self) -> float:
        return self._store.clock() - KEPT_S

    async def _clean(self) -> None:
        """Delete expired answers, once in CLEANED_EVERY_S.

        This is a transaction of its own: two transactions that delete the same rows besides other work could deadlock.
        """
        if self._store.clock() < self._cleaned_at + CLEANED_EVERY_S:
            return
        self._cleaned_at = self._store.clock()
        async with self._store.writing() as connection:
            await connection.execute(delete(Answered).where(Answered.at <= self._oldest()))


def _same_key(asked: Asked) -> Any:
    return (Answered.tenant == asked.tenant) & (Answered.caller == asked.caller) & (Answered.key == asked.key)


def _again(asked: Asked, row: RowMapping) -> Answer:
    if row["fingerprint"] != asked.fingerprint:
        raise KeyReused
    return Answer(row["status"], row["body"])
