"""Before a model serves, its turns are rehearsed in memory, without calls and without lasting state."""

import logging
from types import SimpleNamespace

import pytest
from rasa.shared.core.constants import DEFAULT_INTENTS

from kefu.worker.act.action_endpoint import ActionEndpoint
from kefu.worker.act.calls import CALLS, REHEARSED
from kefu.worker.agent import TurnAgent
from kefu.worker.broker import TurnBroker
from kefu.worker.engine.processor import MESSAGE_TIME
from kefu.worker.lock import PartitionLock
from kefu.worker.store import TurnStore
from kefu.worker.turns.rehearsal import TEXTS, Unrehearsed, rehearse

pytestmark = pytest.mark.asyncio


class CountingRunner:
    """A runner that keeps its outcomes; it needs no contract test because it calls the real one."""

    def __init__(self, runner, broken=None):
        self.processor = runner.processor
        self.outcomes = []
        self._runner = runner
        self._broken = broken

    async def run(self, live, said, parsed, begun):
        if said.message_id.startswith(f"{self._broken}-"):
            raise RuntimeError("broken")
        self.outcomes.append(await self._runner.run(live, said, parsed, begun))
        return self.outcomes[-1]


@pytest.fixture
def endpoint():
    return ActionEndpoint("http://127.0.0.1:9/webhook", timeout_s=1)


@pytest.fixture
def runner(model, endpoint, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    template = SimpleNamespace(tracker_store=TurnStore(None, TurnBroker()), lock_store=PartitionLock())
    return CountingRunner(TurnAgent.around(model, template, endpoint).runner(10.0))


def own(runner):
    """Return the assistant's intents without those that Rasa adds to every domain."""
    return set(runner.processor.domain.intents) - set(DEFAULT_INTENTS)


async def test_every_intent_is_rehearsed_in_both_languages(runner, endpoint):
    """The turns end before the call of the action server."""
    assert await rehearse(runner, 120) == len(runner.outcomes) == len(own(runner)) * len(TEXTS)
    assert {outcome.answer.status for outcome in runner.outcomes} == {"answered"}
    assert any("action_ask_product" in outcome.answer.actions for outcome in runner.outcomes)
    assert endpoint._pool is None  # no connection to the action server was opened


async def test_rehearsal_leaves_no_state_for_later_turns(runner):
    await rehearse(runner, 120)
    assert (REHEARSED.get(), CALLS.get(), MESSAGE_TIME.get()) == (False, None, None)


async def test_failing_intent_is_logged_and_others_are_rehearsed(runner, caplog):
    runner._broken = "goodbye"
    with caplog.at_level(logging.ERROR, "kefu.worker.turns.rehearsal"):
        assert await rehearse(runner, 120) == 2 * len(own(runner)) - 2
    records = [record for record in caplog.records if record.name == "kefu.worker.turns.rehearsal"]
    assert [record.fields["intent"] for record in records] == ["goodbye"]


async def test_model_with_broken_nlu_is_refused(runner, monkeypatch):
    def broken(*_):
        raise RuntimeError("NLU is broken")

    monkeypatch.setattr(runner.processor, "parse_batch", broken)
    with pytest.raises(RuntimeError, match="NLU"):
        await rehearse(runner, 120)


async def test_model_without_a_successful_turn_is_refused(runner, monkeypatch):
    async def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(runner, "run", broken)
    with pytest.raises(Unrehearsed, match="none of"):
        await rehearse(runner, 120)


async def test_rehearsal_of_a_slow_model_ends_early(runner):
    assert await rehearse(runner, 0.001) <= 1
    assert await rehearse(runner, 0) == 0
