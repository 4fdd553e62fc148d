"""One customer's unanswered messages are bounded, whatever is known of their answers, and nobody else's suffer."""

from kefu.errors import StoreUnavailable
from kefu.gateway.problems import Problem
from kefu.gateway.receive import backlog as backlog_module
from kefu.gateway.receive.backlog import COUNTED_S, LOOK_EVERY_S, Backlog


class Store:
    """Outcomes in memory; `away` answers nothing."""

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
        """Return of each message whether it was let in."""
        return [await self._admitted(conversation, message_id) for message_id in message_ids]

    async def _admitted(self, conversation, message_id):
        try:
            await self.backlog.admit(conversation, message_id)
        except Problem as problem:
            assert (problem.kind, int(problem.headers["Retry-After"]) > 0) == ("too-many-unanswered", True)
            return False
        return True


async def test_messages_beyond_the_limit_are_refused_and_those_of_others_are_not():
    it = Fixture()
    assert await it.admitted("a", "b", "c", "d") == [True, True, True, False]
    assert await it.admitted("a", "b", "c", conversation="demo:bob") == [True] * 3


async def test_a_message_sent_again_is_the_same_message():
    it = Fixture()
    assert await it.admitted("a", "b", "c", "a", "b", "c", "d") == [True] * 6 + [False]


async def test_an_answer_that_was_heard_of_makes_room_without_a_look():
    it = Fixture()
    await it.admitted("a", "b", "c")
    it.backlog.answered("demo:alice", "b")
    assert await it.admitted("d") == [True] and it.store.looks == 0
    it.backlog.answered("demo:alice", "never accepted here")
    it.backlog.answered("demo:nobody", "a")
    assert await it.admitted("e") == [False]


async def test_answers_that_nobody_heard_of_are_looked_up_at_the_limit():
    it = Fixture()
    await it.admitted("a", "b", "c")
    it.store.outcomes = {("demo:alice", "a"), ("demo:alice", "b")}
    assert await it.admitted("d", "e", "f") == [True, True, False]
    assert it.store.looks == 1


async def test_a_customer_who_hammers_causes_no_more_than_a_look_now_and_then():
    it = Fixture()
    await it.admitted(*"abc")
    assert not any(await it.admitted(*"defghi")) and it.store.looks == 1
    it.now += LOOK_EVERY_S
    assert not any(await it.admitted(*"defghi")) and it.store.looks == 2


async def test_without_redis_a_message_is_let_in_at_each_look_and_no_more():
    it = Fixture()
    it.store.away = True
    assert await it.admitted("a", "b", "c", "d", "e") == [True] * 4 + [False]
    it.now += LOOK_EVERY_S
    assert await it.admitted("e", "f") == [True, False]


async def test_a_message_whose_marker_never_comes_is_forgotten_after_a_time():
    it = Fixture()
    await it.admitted("a", "b", "c")
    it.now += COUNTED_S - 1
    assert await it.admitted("d") == [False]
    it.now += 2
    assert await it.admitted("d") == [True]


async def test_conversations_that_went_quiet_take_no_memory():
    it = Fixture()
    for number in range(10):
        await it.admitted("a", "b", conversation=f"demo:{number}")
    it.now += COUNTED_S + 1
    await it.admitted("a")
    assert list(it.backlog._conversations) == ["demo:alice"] and it.backlog._counted == 1


async def test_all_that_is_counted_is_bounded(monkeypatch):
    monkeypatch.setattr(backlog_module, "MAX_COUNTED", 5)
    it = Fixture()
    for number in range(10):
        await it.admitted("a", "b", conversation=f"demo:{number}")
    assert list(it.backlog._conversations) == ["demo:8", "demo:9"] and it.backlog._counted == 4


async def test_a_limit_of_zero_is_none_and_counts_nothing():
    it = Fixture(limit=0)
    assert all(await it.admitted(*"abcdefgh")) and not it.backlog._conversations
