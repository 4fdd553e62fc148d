"""Replies and hints behind Sentinels and in a cluster, also after the death of a master."""

import asyncio
import itertools
import time
from urllib.parse import quote

import pytest
import redis
import uvloop

from kefu.codec import encode
from kefu.errors import StoreUnavailable
from kefu.events import AnswerGenerated, UserSaid
from kefu.gateway.answer.hints import Hub
from kefu.gateway.answer.redis_client import connect
from kefu.gateway.answer.replies import ReplyStore, wait_for_outcome
from kefu.keys import ConversationKeys
from kefu.settings import RedisSettings
from ops.local.clusters import RedisCluster, RedisSentinels
from ops.local.servers import RedisServer, free_port
from tests.waiting import eventually, until

pytestmark = pytest.mark.timeout(900)
PEOPLE = [f"demo:p{number}" for number in range(12)]  # enough that each master of a cluster has some
WRITE = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('SPUBLISH', KEYS[2], ARGV[2])"


@pytest.fixture(scope="module", params=[RedisSentinels, RedisCluster])
def group(request, tmp_path_factory):
    servers = request.param(tmp_path_factory.mktemp("redis"))
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()


class Side:
    """The gateway's store and hub, and a write like the worker's."""

    def __init__(self, url):
        self.settings = RedisSettings(url, key_prefix=f"t{time.time_ns()}", timeout_s=10)
        self._clients = [connect(self.settings), connect(self.settings, retries=0, connections=1)]
        self.writes = connect(self.settings)
        self.store = ReplyStore(self._clients[0], self.settings.key_prefix, self.settings.timeout_s)
        self.hub = Hub(self._clients[1], self.settings.key_prefix)

    async def __aenter__(self):
        self.hub.start()
        await eventually(lambda: self.hub.connected)
        return self

    async def __aexit__(self, *_):
        await self.hub.close()
        for client in [*self._clients, self.writes]:
            await client.close()

    async def outcome(self, conversation, message_id):
        """Wait for an outcome, for at most two minutes."""
        said = UserSaid(*conversation.split(":"), message_id, text="hello")
        with self.hub.watch(conversation) as watch:
            return await wait_for_outcome(self.store, self.hub, watch, said, 120)

    async def answer(self, conversation, message_id):
        """Write an outcome and its hint; try again until a master takes them."""
        keys = ConversationKeys(self.settings.key_prefix, conversation)
        marker = encode(AnswerGenerated(*conversation.split(":"), message_id, "cause", 1))
        while True:
            try:
                master = await self.writes.holding(keys.state)
                return await master.eval(WRITE, 2, keys.marker(message_id), keys.hint, marker, message_id)
            except (redis.RedisError, OSError, StoreUnavailable):
                self.writes.doubt()
                await asyncio.sleep(0.1)


async def hinted(side, watch, person, message_id):
    """Answer a message until its hint comes, which proves that the subscription works; polling gives no message id.

    A hint is sent only once, and is lost with a master that is replaced because a busy machine delayed it. Then the
    message is answered again.
    """
    await eventually(lambda: watch.live)

    async def came():
        await side.answer(person, message_id)
        return message_id in await watch.wait(1)

    await eventually(came, f"a hint of {message_id}")


async def test_gateway_gets_hints_and_outcomes_of_every_redis_master(group):
    async with Side(group.url) as side:
        for _ in range(5):
            for person in PEOPLE:
                with side.hub.watch(person) as watch:
                    await hinted(side, watch, person, "m1")
                outcome = await side.store.outcome(person, "m1")
                assert (outcome.status, await side.store.after(person, 0)) == ("answered", [])
            if len(side.hub.subscribed) == len(PEOPLE):  # a broken connection drops its subscriptions: then try again
                break
        # LINGER_S keeps the subscriptions although no request waits any more.
        assert side.hub.watched == 0 and len(side.hub.subscribed) == len(PEOPLE)


async def test_waiting_requests_survive_the_death_of_a_redis_master(group):
    async with Side(group.url) as side:
        waits = [asyncio.create_task(side.outcome(person, "m2")) for person in PEOPLE]
        await eventually(lambda: len(side.hub.subscribed) == len(PEOPLE))
        await asyncio.to_thread(until, group.masters, "a master that answers")
        masters = group.masters()
        before, victim = {member.name for member in masters}, masters[0]
        victim.kill()
        await asyncio.to_thread(until, lambda: {m.name for m in group.masters()} - before, "a new master")
        victim.start()
        await asyncio.gather(*(side.answer(person, "m2") for person in PEOPLE))
        assert {outcome.message_id for outcome in await asyncio.gather(*waits)} == {"m2"}
        await asyncio.to_thread(until, group.whole, "the group to be whole")
        for person in PEOPLE:
            with side.hub.watch(person) as watch:
                await eventually(lambda: side.hub.connected)
                await hinted(side, watch, person, "m3")


async def test_hints_of_a_moved_cluster_slot_reach_the_gateway(group):
    if not isinstance(group, RedisCluster):
        pytest.skip("only a cluster has slots")
    async with Side(group.url) as side:
        person = "demo:moved-away"
        keys = ConversationKeys(side.settings.key_prefix, person)
        with side.hub.watch(person) as watch:
            await eventually(lambda: watch.live)
            source = await side.writes.holding(keys.state)
            masters = await side.writes.masters()
            target = next(client for client in masters if client is not source)
            slot = await source.execute_command("CLUSTER", "KEYSLOT", keys.state)
            old, new = [await client.execute_command("CLUSTER", "MYID") for client in (source, target)]
            # Only a node that imports a slot gets a newer epoch than the source, so that the other nodes believe it.
            await target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", old)
            for client in [target, source, *masters]:
                await client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", new)
            await eventually(lambda: side.hub._servers.holder(keys.hint) is not None)
            numbers = itertools.count(5)

            async def came():
                await side.answer(person, f"m{next(numbers)}")
                return await watch.wait(0.5)

            await eventually(came, "a hint from the slot's new master")


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


async def test_redis_password_with_reserved_characters_is_accepted(tmp_path):
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


def test_a_write_on_a_closed_connection_raises_connection_error(redis_server):
    """The gateway runs on uvloop, which raises RuntimeError at a write where asyncio raises OSError."""

    async def write_on_closed():
        servers = connect(RedisSettings(redis_server.url, timeout_s=10))
        client = await servers.holding("any")
        connection = await client.connection_pool.get_connection()
        connection._writer.transport.abort()
        await asyncio.sleep(0.01)  # uvloop closes the transport in the loop's next iteration
        with pytest.raises(redis.ConnectionError):
            await connection.send_command("PING")
        assert await client.ping()
        await servers.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(write_on_closed())
