"""The store behind Sentinels and in a cluster keeps its promises through failovers and moved slots."""

import asyncio
import os
import signal
import time
from dataclasses import replace
from urllib.parse import quote

import pytest
import redis
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError

from kefu.errors import AlreadyProcessed, StoreUnavailable
from kefu.keys import due_entry
from kefu.redis_cluster import slot_of
from kefu.settings import RedisSettings
from kefu.worker.conversation.stored import Arm, TurnWrite
from kefu.worker.storage.conversations import Conversations
from kefu.worker.storage.due_index import DueIndex
from kefu.worker.storage.redis_client import connect
from ops.local.clusters import RedisCluster, RedisSentinels
from ops.local.servers import RedisServer, free_port
from tests.waiting import eventually, until

pytestmark = pytest.mark.timeout(720)
PARTITIONS = range(5)
PEOPLE = [f"demo:p{number}" for number in range(12)]  # spread over all masters of a cluster


@pytest.fixture(scope="module", params=[RedisSentinels, RedisCluster])
def group(request, tmp_path_factory):
    """A group of servers behind one URL."""
    servers = request.param(tmp_path_factory.mktemp("redis"))
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


@pytest.fixture
def settings(group):
    replicas = 2 if isinstance(group, RedisSentinels) else 1
    return RedisSettings(group.url, key_prefix=f"t{time.time_ns()}", wait_replicas=replicas, timeout_s=1)


def turn(number):
    events = [{"event": "user", "text": f"t{number}"}]
    reply = {"seq": number, "message_id": f"m{number}", "text": "hi", "ts": 1}
    return TurnWrite(f"m{number}", number - 1, number, events, b'{"tracker_version":%d}' % number, [reply])


def armed(person, number):
    """Return a turn with a timer; its index may be on any master."""
    partition = PARTITIONS[PEOPLE.index(person) % len(PARTITIONS)]
    return replace(turn(number), arms=[Arm(partition, due_entry(person), number)])


async def insist(call, *arguments):
    """Repeat a call until the store is available, as the inbox does; a write that finds its marker succeeded."""
    answers = []

    async def answered():
        try:
            answers.append(await call(*arguments))
        except AlreadyProcessed as error:
            assert error.marker == arguments[1].marker
            answers.append(None)
        return answers

    return (await eventually(answered, "the store to be back", not_yet=(StoreUnavailable,)))[0]


async def whole(group):
    """Wait until every master has its replicas; return the masters."""
    present, masters = [], 1 if isinstance(group, RedisSentinels) else len(group.members) // 2

    def holds():
        present[:] = group.masters() if group.whole() else []
        return len(present) == masters

    await asyncio.to_thread(until, holds, "the group to be whole")
    return present


@pytest.mark.asyncio
async def test_conversations_on_all_masters_are_stored_and_read_back(settings):
    store = Conversations(settings)
    await insist(store.histories)
    for person in PEOPLE:
        await insist(store.write, person, turn(1))
        assert (await insist(store.load, person)).turns == [turn(1).events]
        assert await insist(store.marker, person, "m1") == turn(1).marker
        assert await insist(store.position, person) == (1, 1)
        assert await insist(store.turn, person, "m1") == (turn(1).marker, turn(1).events)
    await store.close()


@pytest.mark.asyncio
async def test_acknowledged_writes_survive_the_death_of_masters(group, settings):
    """Every conversation has a writer; a master is killed twice. Each has its 40 turns, in order."""
    store = Conversations(settings)
    failed, killed = 0, asyncio.Event()

    async def write(person):
        nonlocal failed
        for number in range(1, 41):
            if number == 31:
                await killed.wait()  # writes remain for the time after the first death
            while True:
                try:
                    await store.write(person, armed(person, number))
                    break
                except AlreadyProcessed as error:
                    assert error.marker == turn(number).marker
                    break
                except StoreUnavailable:
                    failed += 1
                    await asyncio.sleep(0.1)
            await asyncio.sleep(0.05)

    async def kill():
        for _ in range(2):
            await asyncio.sleep(1)
            before = await whole(group)
            before[0].kill()
            killed.set()
            await asyncio.to_thread(until, lambda: set(group.masters()) - set(before), "a new master")  # noqa: B023
            before[0].start()
            await whole(group)

    await asyncio.wait_for(asyncio.gather(kill(), *(write(person) for person in PEOPLE)), 600)
    assert failed, "the writers noticed nothing: nothing was shown"
    for person in PEOPLE:
        stored = await insist(store.load, person)
        assert (stored.version, stored.seq) == (40, 40)
        assert [events[0]["text"] for events in stored.turns] == [f"t{number}" for number in range(1, 41)]
    due_timers = await insist(DueIndex(store.servers).due, PARTITIONS, 100, 100)
    assert {(due.event.conversation, due.due) for due in due_timers} == {(person, 40) for person in PEOPLE}
    await insist(DueIndex(store.servers).remove, due_timers)
    assert await insist(DueIndex(store.servers).due, PARTITIONS, 100, 100) == []
    await store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("waited_for", [1, 2])
async def test_warning_about_too_few_replicas_to_wait_for_comes_once(group, settings, waited_for, caplog):
    await whole(group)
    store = Conversations(replace(settings, wait_replicas=waited_for))
    for _ in range(3):
        await insist(store.histories)
    warnings = [record.fields for record in caplog.records if "wait for all replicas" in record.message]
    replicas = settings.wait_replicas
    assert warnings == [{"replicas": replicas, "waited_for": waited_for}] * (replicas > waited_for)
    await store.close()


@pytest.mark.asyncio
async def test_write_that_no_replica_has_is_not_acknowledged(group, settings):
    store = Conversations(settings)
    await insist(store.write, PEOPLE[0], turn(1))
    masters = await whole(group)
    replicas = [member for member in group.members if member not in masters]
    for replica in replicas:
        os.kill(replica.pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.write(PEOPLE[0], turn(2))
    finally:
        for replica in replicas:
            os.kill(replica.pid, signal.SIGCONT)
    await insist(store.write, PEOPLE[0], turn(2))
    assert (await insist(store.load, PEOPLE[0])).version == 2
    await store.close()
    await whole(group)


@pytest.mark.asyncio
async def test_moving_slot_is_waited_for_and_followed(group, settings):
    if not isinstance(group, RedisCluster):
        pytest.skip("only a cluster has slots")
    store = Conversations(settings)
    await insist(store.histories)
    person = "demo:moved-away"
    slot = slot_of(person)
    assert slot not in map(slot_of, PEOPLE), "their keys lie there"
    source = await insist(store.servers.redis.holding, store.keys(person).state)
    target = next(client for client in await insist(store.servers.redis.masters) if client is not source)
    ids = [(await client.execute_command("CLUSTER MYID")).decode() for client in (source, target)]
    await target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[0])
    await source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[1])
    for call in (store.write(person, turn(1)), store.load(person), store.marker(person, "m1")):
        with pytest.raises(StoreUnavailable):
            await call
    for client in (target, source):
        await client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[1])
    await insist(store.write, person, turn(1))
    assert (await insist(store.load, person)).version == 1
    assert await insist(store.servers.redis.holding, store.keys(person).state) is target
    await store.close()


class Locked(RedisServer):
    """A server with a password and a socket."""

    password = "s3cr#et/?@%:é"

    def defaults(self):
        return {**super().defaults(), "unixsocket": self.directory / "socket"}

    def lock(self):
        with redis.Redis(port=self.port) as client:
            client.config_set("requirepass", self.password)

    @property
    def urls(self):
        password = quote(self.password, safe="")
        return [f"redis://:{password}@127.0.0.1:{self.port}/1", f"unix://:{password}@{self.directory}/socket?db=1"]


@pytest.mark.asyncio
async def test_redis_password_may_have_reserved_characters(tmp_path):
    """The password is part of the URL of a server or a socket."""
    server = Locked(tmp_path, free_port())
    server.start()
    try:
        server.wait_ready(20)
        server.lock()
        for url in server.urls:
            servers = connect(RedisSettings(url, timeout_s=10))
            client = await servers.holding("any")
            assert (await client.client_info())["db"] == 1
            await servers.close()
    finally:
        server.stop()


def test_connection_that_uvloop_closed_is_replaced(valkey):
    """The worker runs on uvloop, which raises RuntimeError at a write where asyncio raises OSError."""

    async def write_on_closed():
        servers = connect(RedisSettings(valkey.url, timeout_s=1))
        client = await servers.holding("any")
        connection = await client.connection_pool.get_connection("")
        connection._writer.transport.abort()
        await asyncio.sleep(0.01)  # uvloop closes at the next turn of the loop
        with pytest.raises(RedisConnectionError):
            await connection.send_command("PING")
        assert await client.ping()
        await servers.close()

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(write_on_closed())
    finally:
        loop.close()
