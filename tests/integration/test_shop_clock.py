"""Effects of time on the shop, with an injected clock: keys expire, accounts end."""

import asyncio

from sqlalchemy import func, select

from ops.local.shop import accounts
from ops.local.shop.database import open_engine, prepare
from ops.local.shop.idempotency import KEPT_S, Answer, Answers, Asked, KeyReused
from ops.local.shop.models import Answered
from ops.local.shop.orders import OrderBook
from ops.local.shop.store import Store

NOW = 1_772_500_000.0
DAY_S = 24 * 3600


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Opened:
    """A prepared database with a clock that stands still."""

    def __init__(self, url: str) -> None:
        self._url, self.clock = url, Clock()

    async def __aenter__(self) -> "Opened":
        await prepare(self._url)
        self._engine = open_engine(self._url)
        self.store = Store(self._engine, self.clock)
        self.answers = Answers(self.store)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._engine.dispose()


def counted():
    """Return an effect whose answer is the number of its runs."""
    runs = []

    async def effect(_):
        runs.append(None)
        return Answer(201, str(len(runs)).encode())

    return effect


def asked(key: str = "k", fingerprint: str = "f") -> Asked:
    return Asked("demo", "customer:alice", key, fingerprint)


async def test_stored_answer_of_a_key_is_kept_for_seven_days(database_url):
    """Until then a repeated request gets it; afterwards the effect runs again."""
    async with Opened(database_url) as opened:
        effect = counted()
        assert (await opened.answers.once(asked(), effect)).body == b"1"
        opened.clock.now += KEPT_S - 1
        assert (await opened.answers.stored(asked())).body == b"1"
        assert (await opened.answers.once(asked(), effect)).body == b"1"
        opened.clock.now += 1
        assert await opened.answers.stored(asked()) is None
        assert (await opened.answers.once(asked(), effect)).body == b"2"


async def test_key_can_be_reused_after_seven_days(database_url):
    """Before, another request with the same key is refused."""
    async with Opened(database_url) as opened:
        effect = counted()
        await opened.answers.once(asked(), effect)
        other = asked(fingerprint="other")
        for tried in (opened.answers.stored(other), opened.answers.once(other, effect)):
            try:
                await tried
            except KeyReused:
                continue
            raise AssertionError("the key was used for something else")
        opened.clock.now += KEPT_S
        assert (await Answers(opened.store).once(other, effect)).body == b"2"


async def test_expired_answers_are_deleted_from_the_table(database_url):
    async with Opened(database_url) as opened:
        for n in range(5):
            await opened.answers.once(asked(f"k{n}"), counted())
        opened.clock.now += KEPT_S + 1
        await opened.answers.once(asked("new"), counted())
        async with opened.store.reading() as connection:
            assert await connection.scalar(select(func.count()).select_from(Answered)) == 1


async def test_failed_effect_stores_neither_answer_nor_change(database_url):
    async with Opened(database_url) as opened:

        async def fails(connection):
            account = await accounts.find_account(connection, "demo", "alice", NOW, lock=True)
            await accounts.AccountTask(connection, account, {}, NOW).change(name="changed")
            raise ZeroDivisionError

        for _ in range(2):
            try:
                await opened.answers.once(asked(), fails)
            except ZeroDivisionError:
                continue
        assert await opened.answers.stored(asked()) is None
        async with opened.store.reading() as connection:
            assert (await accounts.find_account(connection, "demo", "alice", NOW))["name"] == "林雨晴"


async def test_concurrent_request_runs_the_effect_if_the_first_fails(database_url):
    """The second request has the same key and waits for the first."""
    async with Opened(database_url) as opened:
        begun, fail = asyncio.Event(), asyncio.Event()

        async def fails(_):
            begun.set()
            await fail.wait()
            raise ZeroDivisionError

        first = asyncio.create_task(opened.answers.once(asked(), fails))
        await begun.wait()
        second = asyncio.create_task(opened.answers.once(asked(), counted()))
        fail.set()
        assert isinstance((await asyncio.gather(first, return_exceptions=True))[0], ZeroDivisionError)
        assert (await second).body == b"1"


async def test_account_is_gone_7_days_after_its_deletion(database_url):
    """The customer's orders stay, as the assistant says."""
    async with Opened(database_url) as opened:
        async with opened.store.writing() as connection:
            account = await accounts.find_account(connection, "demo", "bob", NOW, lock=True)
            answer = await accounts.delete_account(accounts.AccountTask(connection, account, {}, NOW))
            assert answer.status == 202
        async with opened.store.reading() as connection:
            assert await accounts.find_account(connection, "demo", "bob", NOW + 6 * DAY_S)
            assert await accounts.find_account(connection, "demo", "bob", NOW + 7 * DAY_S) is None
            # The assistant tells customers that records of their orders are kept.
            numbers = [row["number"] for row in await OrderBook(opened.store).all_own("demo", "bob")]
            assert numbers == ["20260007", "20260006"]
