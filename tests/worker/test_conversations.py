"""A turn's write is atomic, fenced by version and marker, and waits for its replicas."""

import asyncio
import os
import signal

import pytest

from kefu.errors import AlreadyProcessed, StoreUnavailable, VersionConflict
from kefu.settings import RedisSettings
from kefu.worker.conversation.stored import TurnWrite
from kefu.worker.storage.conversations import Conversations
from ops.local.servers import RedisServer, free_port
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio
ALICE = "demo:alice"


def marker(number):
    return b'{"tracker_version":%d}' % number


def turn(number, version=None, **fields):
    reply = {"seq": number, "message_id": f"m{number}", "text": "hi", "ts": 1}
    events = [{"event": "user", "text": f"t{number}"}]
    version = number - 1 if version is None else version
    return TurnWrite(f"m{number}", version, number, events, marker(number), [reply], **fields)


async def test_store_writes_a_turn_completely_and_reads_it_back(conversations):
    await conversations.write(ALICE, turn(1))
    stored = await conversations.load(ALICE)
    assert (stored.version, stored.seq, stored.turns) == (1, 1, [[{"event": "user", "text": "t1"}]])
    assert await conversations.marker(ALICE, "m1") == marker(1)
    assert await conversations.marker("demo:bob", "m1") is None
    assert await conversations.turn(ALICE, "m1") == (marker(1), [{"event": "user", "text": "t1"}])
    assert await conversations.turn(ALICE, "m2") is None


async def test_stored_turn_is_found_beside_an_unreadable_one(conversations):
    await conversations.write(ALICE, turn(1))
    await conversations.servers.redis._client.rpush(conversations.keys(ALICE).turns, "not json")
    assert await conversations.turn(ALICE, "m1") == (marker(1), turn(1).events)


async def test_second_write_of_a_message_is_refused_with_its_marker(conversations):
    """The marker is the stored outcome of the first write."""
    await conversations.write(ALICE, turn(1))
    with pytest.raises(AlreadyProcessed) as error:
        await conversations.write(ALICE, turn(1))
    assert error.value.marker == marker(1)
    assert (await conversations.load(ALICE)).version == 1


async def test_write_with_another_version_changes_nothing(conversations):
    """Each write names the version of the conversation that it continues: another worker may have written since."""
    await conversations.write(ALICE, turn(1))
    before = await conversations.load(ALICE)
    for version in (0, 2, 7):
        with pytest.raises(VersionConflict) as conflict:
            await conversations.write(ALICE, turn(2, version=version))
        assert (conflict.value.expected, conflict.value.found) == (version, 1)
    assert await conversations.load(ALICE) == before
    assert await conversations.marker(ALICE, "m2") is None


async def test_one_of_twenty_concurrent_writes_succeeds(conversations):
    """All continue the same version of one conversation."""
    writes = [conversations.write(ALICE, turn(n, version=0)) for n in range(1, 21)]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert outcomes.count(None) == 1
    assert all(isinstance(outcome, VersionConflict) for outcome in outcomes if outcome is not None)


async def test_trimming_keeps_the_last_turns_and_the_snapshot(conversations):
    for number in range(1, 6):
        await conversations.write(ALICE, turn(number))
    snapshot = [{"event": "slot", "name": "language", "value": "zh"}]
    await conversations.write(ALICE, turn(6, snapshot=snapshot, keep=2))
    stored = await conversations.load(ALICE)
    assert [events[0]["text"] for events in stored.turns] == ["t4", "t5", "t6"]
    assert stored.snapshot == snapshot


async def test_every_key_of_a_conversation_expires(conversations):
    await conversations.write(ALICE, turn(1))
    keys = conversations.keys(ALICE)
    redis = await conversations.servers.redis.holding(ALICE)
    for key in (keys.state, keys.turns, keys.replies, keys.marker("m1")):
        assert 0 < await redis.ttl(key) <= 7 * 24 * 3600


async def test_unsendable_write_fails_alone(conversations):
    """A write of another conversation, sent at the same time, succeeds."""
    unsendable = TurnWrite("m1", 0, 1, [], object(), [])
    outcomes = await asyncio.gather(
        conversations.write("demo:bob", unsendable), conversations.write(ALICE, turn(1)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [TypeError, type(None)]
    assert (await conversations.load(ALICE)).version == 1


async def test_unreachable_redis_raises_store_unavailable():
    store = Conversations(RedisSettings(url="redis://127.0.0.1:1/0", timeout_s=0.2))
    for call in (store.histories(), store.load(ALICE), store.write(ALICE, turn(1))):
        with pytest.raises(StoreUnavailable):
            await call
    await store.close()


async def test_write_refused_for_lack_of_memory_can_be_repeated(conversations):
    """A Redis at its memory limit counts as unavailable."""
    redis = await conversations.servers.redis.holding(ALICE)
    await redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable):
            await conversations.write(ALICE, turn(1))
    finally:
        await redis.config_set("maxmemory", "0")
    await conversations.write(ALICE, turn(1))
    assert (await conversations.load(ALICE)).version == 1


async def test_write_is_acknowledged_only_once_a_replica_has_it(valkey, tmp_path):
    """A repeated write finds its own marker and still waits for the replica."""
    replica = Replica(tmp_path, free_port(), valkey.port)
    replica.start()
    replica.wait_ready(20)
    store = Conversations(RedisSettings(url=valkey.url, key_prefix="waits", wait_replicas=1, timeout_s=1))
    try:
        await until_written(store, turn(1))
        os.kill(replica.pid, signal.SIGSTOP)
        for _ in range(2):  # the second write finds its own marker and still has to wait
            with pytest.raises(StoreUnavailable):
                await store.write(ALICE, turn(2))
        with pytest.raises(StoreUnavailable):
            await store.marker(ALICE, "m2")
        os.kill(replica.pid, signal.SIGCONT)
        assert await until_written(store, turn(2)) == marker(2)
        assert (await store.load(ALICE)).version == 2
    finally:
        os.kill(replica.pid, signal.SIGCONT)
        await store.close()
        replica.stop()


async def test_write_to_a_demoted_master_is_not_acknowledged(valkey, tmp_path):
    """The server takes the write, like a master demoted between the write and the wait for replicas."""
    replica = Replica(tmp_path, free_port(), valkey.port)
    replica.start()
    replica.wait_ready(20)
    store = Conversations(RedisSettings(url=replica.url, key_prefix="demoted", wait_replicas=1, timeout_s=1))
    try:
        redis = await store.servers.redis.holding(ALICE)
        await redis.config_set("replica-read-only", "no")
        with pytest.raises(StoreUnavailable):
            await store.write(ALICE, turn(1))
    finally:
        await store.close()
        replica.stop()


class Replica(RedisServer):
    """A replica of another server."""

    def __init__(self, directory, port, master):
        super().__init__(directory, port)
        self._master = master

    def command(self):
        return [*super().command(), "--replicaof", "127.0.0.1", str(self._master)]


async def until_written(store, write):
    """Send a write until the store has it on its replica; returns the marker."""

    async def written():
        try:
            await store.write(ALICE, write)
        except AlreadyProcessed as error:
            return error.marker
        return write.marker

    return await eventually(written, "the replica to follow", not_yet=(StoreUnavailable,))
