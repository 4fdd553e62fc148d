"""Records go to the lanes and to NLU, and a swap of models does not delay them."""

import asyncio
from types import SimpleNamespace

import pytest

from kefu.codec import encode
from kefu.events import UserSaid
from kefu.settings import KafkaSettings, RedisSettings, WorkerSettings
from kefu.worker import worker as module
from kefu.worker.inbox.reception import Reception
from kefu.worker.intake.partitions import Partition, Taken
from kefu.worker.intake.records import Record
from kefu.worker.start.collector import Housekeeping
from kefu.worker.turns.live import LiveConversations
from kefu.worker.watch import give_up
from kefu.worker.worker import Worker

pytestmark = pytest.mark.asyncio


class Lanes:
    """Stand-in for the lanes: keeps the items put into them."""

    def __init__(self):
        self.items = {}

    def put(self, lane, item):
        self.items.setdefault(lane, []).append(item[1])


@pytest.fixture
def worker():
    settings = WorkerSettings(health_port=0, action_url="http://127.0.0.1:9/", drain_s=60)
    made = Worker(KafkaSettings("127.0.0.1:9"), RedisSettings("redis://127.0.0.1:9"), settings)
    inbox = SimpleNamespace(store_away=False, runner=SimpleNamespace(processor=None))
    reception = Reception(inbox, made._understanding, give_up)
    reception._lanes = Lanes()
    made._parts = SimpleNamespace(inbox=inbox, reception=reception, live=LiveConversations(1))
    made._watch = SimpleNamespace(housekeeping=Housekeeping())
    made._intake = SimpleNamespace(inflight=1, assigned=[])
    yield made
    made._understanding.stop()
    made._health._server.server_close()  # the server was never started


async def test_unreadable_record_does_not_stop_its_poll(worker, monkeypatch):
    """The record becomes poison; the other records of the poll are read."""
    said = UserSaid("demo", "alice", "m1", payload="/greet", identified=True)
    asked = []
    monkeypatch.setattr(worker._understanding, "ask", lambda _, texts: asked.extend(texts) or [None] * len(texts))
    deep = UserSaid("demo", "mallory", "m2", text="x", metadata={"a": 0})
    for _ in range(600):
        deep.metadata["a"] = {"a": deep.metadata["a"]}
    records = [
        Record("user.query", 0, offset, each.conversation.encode(), encode_deep(each), [])
        for offset, each in enumerate((deep, said))
    ]
    worker._parts.reception.receive([Taken(record, Partition(0), None) for record in records])
    (poison,), (inbound,) = (
        worker._parts.reception._lanes.items["?0"],
        worker._parts.reception._lanes.items["demo:alice"],
    )
    assert poison.error_class == "unreadable"
    assert inbound.event.message_id == said.message_id
    assert [text for text, _ in asked] == ["/greet"]


def encode_deep(said):
    """Return the event with metadata nested deeper than `encode` allows, as another writer may send it."""
    shallow = encode(UserSaid(said.tenant, said.user, said.message_id, said.text, said.payload, identified=True))
    if not said.metadata:
        return shallow
    return shallow.replace(b'"metadata":{}', b'"metadata":' + b'{"a":' * 600 + b"0" + b"}" * 600)


async def test_swap_of_models_does_not_wait_for_turns(worker, monkeypatch):
    """Messages taken before the swap are finished by the old model."""

    async def loaded(*_):
        return SimpleNamespace(model_id="new", domain=None, tracker_store=SimpleNamespace(), runner=lambda *_: new)

    old, new = (SimpleNamespace(processor=name) for name in ("old", "new"))
    asked = []
    monkeypatch.setattr(module, "load_beside", loaded)
    monkeypatch.setattr(worker._understanding, "ask", lambda model, texts: asked.append(model) or [None for _ in texts])
    worker.agent, worker._endpoint = SimpleNamespace(), None
    worker._parts.inbox.runner = old
    said = UserSaid("demo", "alice", "m1", text="hello", identified=True)
    taken = Taken(Record("user.query", 0, 0, b"demo:alice", encode(said), []), Partition(0), None)
    worker._parts.reception.receive([taken])
    await asyncio.wait_for(worker.swap("new.tar.gz"), 20)  # while `taken` is in flight
    worker._parts.reception.receive([taken])
    assert [each.runner for each in worker._parts.reception._lanes.items["demo:alice"]] == [old, new]
    assert asked == ["old", "new"]
