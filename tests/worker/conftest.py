"""Fixtures of the worker's tests, which run in Rasa's environment (Python 3.10)."""

import asyncio
import json
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Awaitable, Callable, Dict, List, Optional, Sequence

import pytest
import pytest_asyncio
from rasa.utils.endpoints import ClientResponseError

from kefu.events import UserSaid
from kefu.settings import RedisSettings
from kefu.worker.act.action_endpoint import ActionEndpoint
from kefu.worker.agent import TurnAgent
from kefu.worker.broker import TurnBroker
from kefu.worker.engine.model import LoadedModel
from kefu.worker.lock import PartitionLock
from kefu.worker.storage.conversations import Conversations
from kefu.worker.store import TurnStore
from kefu.worker.turns.live import LiveConversation
from kefu.worker.turns.offered import neutral
from kefu.worker.turns.outcome import Outcome
from kefu.worker.turns.runner import TurnRunner
from tests.worker.tracks import Clock

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "models" / "kefu.tar.gz"
Answer = Callable[[Dict[str, Any]], Awaitable[Dict[str, Any]]]


class ScriptedActions(ActionEndpoint):
    """Stand-in for the action server: a function gives its answers. tests/contract tests the real server."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9/", timeout_s=1)
        self.calls: List[str] = []
        self.answer: Answer = self.form_is_content

    async def request(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(kwargs["json"]["next_action"])
        return await self.answer(kwargs["json"])

    @staticmethod
    async def form_is_content(body: Dict[str, Any]) -> Dict[str, Any]:
        """Validate the form's slots and report every order as shipped."""
        slots = body["tracker"]["slots"]
        if body["next_action"].startswith("validate_"):
            entities = body["tracker"]["latest_message"]["entities"]
            named = [each["value"] for each in entities if each["entity"] == "order_number"]
            given = [{"event": "slot", "name": "order_number", "value": number} for number in named[-1:]]
            asked = None if named or slots.get("order_number") else "order_number"
            return {"events": [*given, {"event": "slot", "name": "requested_slot", "value": asked}], "responses": []}
        if body["next_action"] == "action_ask_order_number":
            return {"events": [], "responses": [{"response": "utter_ask_for_order_number"}]}
        number = slots["order_number"]
        facts = {"order_number": number, "carrier": "SF", "tracking_number": "SF1"}
        return {"events": [], "responses": [{"response": "utter_order_shipped", **facts}]}

    @staticmethod
    async def broken(_: Dict[str, Any]) -> Dict[str, Any]:
        raise ClientResponseError(500, "Internal Server Error", b"{}")

    @staticmethod
    async def slow(_: Dict[str, Any]) -> Dict[str, Any]:
        await asyncio.sleep(30)
        return {}


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    """The trained model, which `make train` writes."""
    assert MODEL.is_file(), f"no model at {MODEL.relative_to(ROOT)}: run `make train`"
    return LoadedModel.from_path(str(MODEL))


@pytest.fixture
def actions() -> ScriptedActions:
    """A new stand-in for the action server."""
    return ScriptedActions()


@pytest.fixture
def agent(model: LoadedModel, actions: ScriptedActions, monkeypatch: pytest.MonkeyPatch) -> TurnAgent:
    """An agent of the trained model, as the worker builds it."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.setattr("kefu.worker.agent.ActionEndpoint", ScriptedActions)
    template = SimpleNamespace(tracker_store=TurnStore(None, TurnBroker()), lock_store=PartitionLock())
    return TurnAgent.around(model, template, actions)


class Chat:
    """One customer's conversation, run turn by turn in memory."""

    def __init__(self, agent: TurnAgent, deadline_s: float = 10.0) -> None:
        self.runner: TurnRunner = agent.runner(deadline_s)
        self.live = LiveConversation.restore("demo:alice", self.runner.processor.view, _nothing())
        self.sent = 0

    async def say(self, text: Optional[str] = None, payload: Optional[str] = None, **fields: Any) -> Outcome:
        """Run one message and apply its outcome as if stored."""
        self.sent += 1
        said = UserSaid("demo", "alice", f"m{self.sent}", text=text, payload=payload, identified=True, **fields)
        parsed = asyncio.get_running_loop().create_future()
        words = neutral(text) if text is not None else payload
        parsed.set_result(self.runner.processor.parse_batch("test", [words])[0])
        return self.take(await self.runner.run(self.live, said, parsed, time.monotonic()))

    def take(self, outcome: Outcome) -> Outcome:
        """Update the live conversation as the inbox does after a successful write."""
        if outcome.snapshot is not None:
            self.live.trim(outcome.snapshot, len(outcome.events))
        self.live.written(outcome.write)
        return outcome


def _nothing() -> Any:
    from kefu.worker.conversation.stored import Stored

    return Stored()


@pytest.fixture
def chat(agent: TurnAgent) -> Chat:
    """A new conversation."""
    return Chat(agent)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real Redis-protocol server on a free port."""
    from ops.local.servers import RedisServer, free_port

    server = RedisServer(tmp_path_factory.mktemp("redis"), free_port())
    server.start()
    server.wait_ready(20)
    yield server
    server.stop()


@pytest_asyncio.fixture
async def conversations(valkey: Any) -> Any:
    """The conversation store, with its own key prefix."""
    store = Conversations(RedisSettings(url=valkey.url, key_prefix=f"t{uuid.uuid4().hex[:8]}", timeout_s=30))
    yield store
    await store.close()


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A real Kafka with the platform's topics."""
    from kefu.kafka import create_topics
    from kefu.settings import KafkaSettings
    from ops.local.servers import KafkaServer, free_port

    server = KafkaServer(tmp_path_factory.mktemp("kafka"), free_port())
    server.start()
    server.wait_ready()
    create_topics(KafkaSettings(server.brokers))
    yield server.brokers
    server.stop()


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small model with Rasa's policies and their stand-ins."""
    from conversing import trained_bank

    return trained_bank(tmp_path_factory.mktemp("bank"))


@pytest.fixture
def plan_file(tmp_path: Path) -> Callable[..., str]:
    """A function that writes a release's plan and returns its path."""
    path = tmp_path / "release.json"

    def write(active: str = "blue", tenants: Sequence[str] = (), percent: int = 0) -> str:
        path.write_text(json.dumps({"active": active, "canary": {"tenants": list(tenants), "percent": percent}}))
        return str(path)

    return write


@pytest.fixture
def clock() -> Clock:
    """The clock of a release's tracks."""
    return Clock()
