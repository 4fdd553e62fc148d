"""Workers that may die, lose answers or lose their partition at each call that leaves the process.

The inbox, the store's scripts and the mending are real, on a real Redis-protocol server. Kafka is a list;
tests/e2e uses a real one.
"""

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Optional

import orjson

from kefu.codec import encode
from kefu.errors import KefuError, QueueUnavailable, StoreUnavailable
from kefu.events import ANSWERS, DEAD_LETTERS, DIALOGUE_EVENTS, UserSaid
from kefu.settings import RedisSettings
from kefu.worker.inbox.message import Inbound
from kefu.worker.inbox.patience import NotMine
from kefu.worker.inbox.protocol import Inbox
from kefu.worker.intake.records import Record
from kefu.worker.storage.conversations import Conversations
from kefu.worker.storage.mending import Mender
from kefu.worker.storage.published import PublishedTail
from kefu.worker.turns.live import LiveConversations

ALICE = "demo:alice"
PARTITION = 1
OK, DIES_BEFORE, DIES_AFTER, AWAY, UNHEARD = "ok", "dies before", "dies after", "away", "unheard"
_SNAPSHOT = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  found[#found + 1] = key
  found[#found + 1] = redis.call('DUMP', key)
end
return found
"""
GATED = ("marker", "load", "position", "turn", "write", "skip", "histories")
Policy = Callable[[str], Any]


def at_once(_: int) -> float:
    """Return the backoff of these tests: retries do not wait."""
    return 0.0


class Died(BaseException):
    """The process was killed here; calls that it completed keep their effects."""


class Gate:
    """Every call that leaves the process passes here; `policy` gives the verdict."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.dead = False

    async def __call__(self, name: str, away: KefuError, call: Callable[[], Any]) -> Any:
        verdict = OK if not self.dead else DIES_BEFORE
        if not self.dead:
            verdict = self.policy(name)
            verdict = await verdict if asyncio.isfuture(verdict) else verdict
        if verdict == DIES_BEFORE:
            self._die()
        if verdict == AWAY:
            raise away
        try:
            return await call()
        finally:
            if verdict == DIES_AFTER:
                self._die()
            if verdict == UNHEARD:
                raise away

    def _die(self) -> None:
        self.dead = True
        raise Died


class GatedStore:
    """The real store behind a gate."""

    def __init__(self, store: Conversations, gate: Gate) -> None:
        self._store = store
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in GATED:
            return method

        async def gated(*arguments: Any) -> Any:
            return await self._gate(name, StoreUnavailable("away"), lambda: method(*arguments))

        return gated


class Log:
    """Kafka as a list: every record sent stays, acknowledged or not."""

    def __init__(self) -> None:
        self.records: List[tuple] = []

    def of(self, topic: str) -> List[Dict[str, Any]]:
        return [orjson.loads(value) for name, _, value in self.records if name == topic]


class GatedProducer:
    """Sends to a log behind a gate."""

    def __init__(self, log: Log, gate: Gate) -> None:
        self._log = log
        self._gate = gate

    async def send(self, topic: str, key: Any, value: bytes, headers: Any = None) -> None:
        async def append() -> None:
            self._log.records.append((topic, key if isinstance(key, bytes) else key.encode(), value))

        await self._gate(f"send {topic}", QueueUnavailable("away"), append)


class LogTail(PublishedTail):
    """The published turns, read from the list by the code that reads them from Kafka."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def _tail(self, topic: str, _: Any) -> Any:
        for name, key, value in self._log.records:
            if name == topic:
                yield SimpleNamespace(key=lambda k=key: k, value=lambda v=value: v, partition=lambda: PARTITION)


class Worker:
    """One process. `mine`: it believes it owns the partition; `owner`: Kafka takes its commits."""

    def __init__(self, system: "System", policy: Policy) -> None:
        self.mine = self.owner = True
        self._system = system
        self.gate = Gate(policy)
        store = GatedStore(system.store, self.gate)

        async def rearm(*_: Any) -> None:
            """Arm nothing: these turns have no timers."""

        self.mender = Mender(store, LogTail(system.log), lambda: [PARTITION], rearm)
        self.live = LiveConversations(10)
        producer = GatedProducer(system.log, self.gate)
        self.inbox = Inbox(self._runner(), store, self.live, producer, 2, 4, self.mender, backoff=at_once)

    def _runner(self) -> Any:
        runner, poison = self._system.agent.runner(10), self._system.poison
        run = runner.run

        async def run_or_fail(live: Any, said: UserSaid, *rest: Any) -> Any:
            if said.message_id == poison:
                raise ValueError("a bug")
            return await run(live, said, *rest)

        runner.run = run_or_fail
        return runner

    def believes(self) -> bool:
        """Return whether the worker believes it owns the partition."""
        return self.mine

    async def work(self) -> None:
        """Process the uncommitted messages in order; end when done, dead or without the partition."""
        start = self._system.committed
        for offset in range(start, len(self._system.messages)):
            try:
                await self.inbox.process(self._system.inbound(offset, self.believes))
            except (Died, NotMine):
                return
            if self.owner:
                self._system.committed = max(self._system.committed, offset + 1)

    def lose_partition(self) -> None:
        """Learn that another worker owns the partition."""
        self.mine = False
        self.live.drop({PARTITION})
        self.mender.forget({PARTITION})


class System:
    """Redis, Kafka and the messages of one conversation on one partition."""

    def __init__(self, agent: Any, url: str, messages: List[str], poison: Optional[str] = None) -> None:
        self.agent, self.messages, self.poison = agent, messages, poison
        self.settings = RedisSettings(url, key_prefix=f"t{uuid.uuid4().hex[:8]}", timeout_s=30)
        self.store = Conversations(self.settings)
        self.log = Log()
        self.committed = 0

    def inbound(self, offset: int, mine: Callable[[], bool]) -> Inbound:
        message_id = self.messages[offset]
        said = UserSaid("demo", "alice", message_id, text="hello", identified=True)
        parsed = asyncio.get_running_loop().create_future()
        data = self.agent.processor.parse_batch("test", ["hello"])[0]
        parsed.set_result(data)
        record = Record("user.query", PARTITION, offset, ALICE.encode(), encode(said), [])
        return Inbound(record, said, mine, parsed)

    @property
    def client(self) -> Any:
        return self.store.servers.redis._client

    async def snapshot(self) -> Dict[bytes, bytes]:
        """Return every stored key at one moment, as a replica has it."""
        flat = await self.client.eval(_SNAPSHOT, 0, f"{self.settings.key_prefix}:*")
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def fail_over(self, to: Dict[bytes, bytes]) -> None:
        """Replace all data by a snapshot, atomically, as when a replica takes over."""
        pipe = self.client.pipeline(transaction=True)
        pipe.flushall()  # only this system uses the server
        for key, value in to.items():
            pipe.restore(key, 7 * 24 * 3600 * 1000, value)
        pipe.execute_command("DEBUG", "CHANGE-REPL-ID")
        await pipe.execute()

    async def recover(self) -> None:
        """Let a new worker without faults process the remaining messages and mend all lost writes."""
        worker = Worker(self, lambda _: OK)
        await worker.work()
        assert self.committed == len(self.messages)
        await worker.mender.look()
        if worker.mender._background is not None:
            await worker.mender._background

    async def check(self, lost_writes: bool = False) -> None:
        """Check the promises. After lost writes a reply may be published twice, with one id and number."""
        wanted = list(dict.fromkeys(self.messages))
        answers: Dict[str, set] = {}
        places: Dict[int, set] = {}
        for _, _, value in [record for record in self.log.records if record[0] == ANSWERS]:
            answer = orjson.loads(value)
            answers.setdefault(answer["message_id"], set()).add(value)
            places.setdefault(answer["tracker_version"], set()).add(answer["message_id"])
        assert list(answers) == wanted, "published in order, nothing lost"
        assert all(len(ids) == 1 for ids in places.values()), "one version, one message"
        markers = {name: await self.store.marker(ALICE, name) for name in wanted}
        if not lost_writes:
            assert answers == {name: {marker} for name, marker in markers.items()}, "one answer, as it is stored"
        assert (await self.store.position(ALICE))[0] == len(wanted)
        said = [name for name in wanted if name != self.poison]
        entries = await self.client.xrange(self.store.keys(ALICE).replies)
        replies = [orjson.loads(fields[b"r"]) for _, fields in entries]
        assert [(each["seq"], each["message_id"]) for each in replies] == list(enumerate(said, 1))
        assert {turn["cause"] for turn in self.log.of(DIALOGUE_EVENTS)} == self._causes(said)
        letters = {letter["message_id"] for letter in self.log.of(DEAD_LETTERS)}
        assert letters == ({self.poison} if self.poison else set())

    @staticmethod
    def _causes(names: List[str]) -> set:
        return {UserSaid("demo", "alice", name, text="hello").id for name in names}
