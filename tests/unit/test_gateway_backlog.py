"""The backlog limits each conversation's unanswered messages, with hints, without hints and without Redis."""

from kefu.errors import StoreUnavailable
from kefu.gateway.problems import Problem
from kefu.gateway.receive import backlog as backlog_module
from kefu.gateway.receive.backlog import COUNTED_S, LOOK_EVERY_S, Backlog


class Store:
    """Outcomes in memory; while `away` is set every read raises StoreUnavailable."""

    def __init__(self):
        self.outcomes, self.looks, self.away = set(), 0, False

    async def answered(self, conversation, message_ids):
        self.looks += 1
        if self.away:
            raise StoreUnavailable("away")
        return [(conversation, message_id) in self.outcomes for message_id in message_ids]


class Fixture:
    def __init__(self, limit=3):
        self.now, self.store = 1000.0, Store()
        self.backlog = Backlog(limit, self.store.answered, lambda: self.now)

    async def admitted(self, *message_ids, conversation="demo:alice"):
        """Return for each message whether it was admitted."""
        return [await self._admitted(conversation, message_id) for message_id in message_ids]

    async def _admitted(self, conversation, message_id):
        try:
            await self.backlog.admit(conversation, message_id)
        except Problem as problem:
            assert (problem.kind, int(problem.headers["Retry-After"]) > 0) == ("too-many-unanswered", True)
            return False
        return True


async def test_backlog_refuses_only_the_conversation_at_its_limit():
    it = Fixture()
    assert await it.admitted("a", "b", "c", "d") == [True, True, True, False]
    assert await it.admitted("a", "b", "c", conversation="demo:bob") == [True] * 3


async def test_repeated_message_counts_once_in_the_backlog():
    it = Fixture()
    assert await it.admitted("a", "b", "c", "a", "b", "c", "d") == [True] * 6 + [False]


async def test_reported_answer_makes_room_in_the_backlog():
    """No read of Redis is needed."""
    it = Fixture()
    await it.admitted("a", "b", "c")
    it.backlog.answered("demo:alice", "b")
    assert await it.admitted("d") == [True] and it.store.looks == 0
    it.backlog.answered("demo:alice", "never accepted here")
    it.backlog.answered("demo:nobody", "a")
    assert await it.admitted("e") == [False]


async def test_backlog_reads_unreported_answers_at_the_limit():
    it = Fixture()
    await it.admitted("a", "b", "c")
    it.store.outcomes = {("demo:alice", "a"), ("demo:alice", "b")}
    assert await it.admitted("d", "e", "f") == [True, True, False]
    assert it.store.looks == 1


async def test_backlog_reads_outcomes_once_per_look_every_s():
    it = Fixture()
    await it.admitted(*"abc")
    assert not any(await it.admitted(*"defghi")) and it.store.looks == 1
    it.now += LOOK_EVERY_S
    assert not any(await it.admitted(*"defghi")) and it.store.looks == 2


async def test_backlog_without_redis_admits_one_message_per_interval():
    it = Fixture()
    it.store.away = True
    assert await it.admitted("a", "b", "c", "d", "e") == [True] * 4 + [False]
    it.now += LOOK_EVERY_S
    assert await it.admitted("e", "f") == [True, False]


async def test_a_message_without_marker_stops_counting_after_counted_s():
    it = Fixture()
    await it.admitted("a", "b", "c")
    it.now += COUNTED_S - 1
    assert await it.admitted("d") == [False]
    it.now += 2
    assert await it.admitted("d") == [True]


async def test_backlog_forgets_quiet_conversations():
    it = Fixture()
    for number in range(10):
        await it.admitted("a", "b", conversation=f"demo:{number}")
    it.now += COUNTED_S + 1
    await it.admitted("a")
    assert list(it.backlog._conversations) == ["demo:alice"] and it.backlog._counted == 1


async def test_number_of_messages_in_the_backlog_is_bounded(monkeypatch):
    monkeypatch.setattr(backlog_module, "MAX_COUNTED", 5)
    it = Fixture()
    for number in range(10):
        await it.admitted("a", "b", conversation=f"demo:{number}")
    assert list(it.backlog._conversations) == ["demo:8", "demo:9"] and it.backlog._counted == 4


async def test_backlog_with_limit_0_admits_every_message():
    it = Fixture(limit=0)
    assert all(await it.admitted(*"abcdefgh")) and not it.backlog._conversations
