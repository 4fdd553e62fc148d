"""Calls with the same key share one answer, as long as it is kept."""

import asyncio
import gc
import weakref
from contextvars import ContextVar

import pytest

from actions.idempotency import Answers, current_key, scoped, with_input


class Work:
    """Counts its runs; waits for `gate`, fails while `failing`."""

    def __init__(self) -> None:
        self.runs, self.failing, self.gate = 0, False, asyncio.Event()

    async def __call__(self) -> bytes:
        self.runs += 1
        run = self.runs
        await self.gate.wait()
        if self.failing:
            raise ConnectionError
        return b"answer %d" % run


def test_callers_with_one_key_share_one_run():
    async def scenario() -> None:
        work, answers = Work(), Answers()
        waiting = [asyncio.create_task(answers.once("k", work)) for _ in range(10)]
        await asyncio.sleep(0)
        work.gate.set()
        assert set(await asyncio.gather(*waiting)) == {b"answer 1"}
        assert await answers.once("k", work) == b"answer 1"
        assert await answers.once("other", work) == b"answer 2"

    asyncio.run(scenario())


def test_failed_run_fails_all_waiting_callers_and_is_not_kept():
    async def scenario() -> None:
        work, answers = Work(), Answers()
        work.failing = True
        work.gate.set()
        errors = await asyncio.gather(*(answers.once("k", work) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in errors] == [ConnectionError] * 3
        work.failing = False
        assert await answers.once("k", work) == b"answer 2"

    asyncio.run(scenario())


def test_cancelled_caller_does_not_cancel_the_others_work():
    async def scenario() -> None:
        work, answers = Work(), Answers()
        gone, waiting = (asyncio.create_task(answers.once("k", work)) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        work.gate.set()
        assert await waiting == b"answer 1"

    asyncio.run(scenario())


def test_oldest_stored_answers_are_dropped_by_limit_and_age():
    async def scenario() -> None:
        now = [0.0]
        work, answers = Work(), Answers(limit=2, lifetime_s=10, clock=lambda: now[0])
        work.gate.set()
        for key in ("a", "b", "c"):
            await answers.once(key, work)
        assert await answers.once("c", work) == b"answer 3"
        assert await answers.once("a", work) == b"answer 4"
        now[0] = 11.0
        assert await answers.once("a", work) == b"answer 5"

    asyncio.run(scenario())


def test_stored_answer_does_not_keep_its_request_in_memory():
    class Request:
        """A request that the server puts into the handler's context."""

    current_request: ContextVar[Request] = ContextVar("current_request")

    async def scenario() -> None:
        work, answers = Work(), Answers()
        work.gate.set()

        async def handle() -> "weakref.ref[Request]":
            request = Request()
            current_request.set(request)
            await answers.once("k", work)
            return weakref.ref(request)

        handled = await asyncio.create_task(handle())
        await asyncio.sleep(0)  # the loop releases the handler's context
        gc.collect()
        assert handled() is None
        assert await answers.once("k", work) == b"answer 1"

    asyncio.run(scenario())


def test_action_sees_the_key_of_its_call():
    async def scenario() -> None:
        seen = []

        async def work() -> bytes:
            seen.append(current_key.get())
            return b""

        answers = Answers()
        current_key.set("mine")
        await answers.once("k", work)
        assert seen == ["mine"]

    asyncio.run(scenario())


def test_two_users_with_the_same_message_id_have_different_keys():
    assert scoped("m-1:action:0", "demo:alice") != scoped("m-1:action:0", "demo:bob")
    assert len(scoped("x" * 512, "demo:alice")) == 64


@pytest.mark.parametrize("change", [{"slots": {"a": 2}}, {"latest_message": {"text": "y"}}, {"active_loop": {}}])
def test_another_tracker_state_gives_another_key(change):
    tracker = {"slots": {"a": 1, "b": None}, "latest_message": {"text": "x"}, "active_loop": {"name": "f"}}
    same = {**tracker, "slots": {"b": None, "a": 1}, "events": [{"timestamp": 2}]}
    assert with_input("k", tracker) == with_input("k", same)
    assert with_input("k", tracker) != with_input("k", {**tracker, **change})
