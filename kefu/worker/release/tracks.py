"""Decides which inbox this worker reads during a release, and whether there is a candidate to lend messages to.

In: the plan, and the entries of the other track's workers in Redis. Once a second each worker writes its entry: its
beat, which is a counter, and the inbox that it reads. A worker is alive while its beat goes up, so no clocks are
compared.
"""

import asyncio
import logging
import socket
import time
import uuid
from typing import Any, Callable, Dict, List, NamedTuple

import orjson

from kefu import metrics
from kefu.errors import SettingsError
from kefu.events import CANDIDATE_QUERY, USER_QUERY
from kefu.keys import track_domain, track_workers
from kefu.worker.release.plan import TRACKS, Plan
from kefu.worker.storage.servers import Servers

logger = logging.getLogger(__name__)

BEAT_S = 1.0  # between two beats
ALIVE_S = 10.0  # a worker without a beat for this long counts as dead; Kafka's session time-out is as long
LENDING_ALIVE_S = 3.0  # nothing is lent to a candidate without a beat for this long
# The longest gap between two reads of the entries. After a longer gap `_has_looked` counts its ALIVE_S from the start.
UNSEEN_S = 3.0
TIDY_BEATS = 30  # dead workers' entries are removed once in this many beats
FORGOTTEN_S = 3600  # lifetime of a track's keys in Redis after its last worker's last beat
Entry = Dict[str, Any]  # a worker's entry: its beat, inbox, model, and numbers of turns


class _Seen(NamedTuple):
    """A worker's beat as this process has seen it."""

    beat: int
    at: float  # when the beat last went up, by this process's monotonic clock
    moved: bool  # whether the beat has gone up since it was first seen; that of a dead worker's left-over entry has not


class Track:
    """The workers of one track, by their entries in Redis."""

    def __init__(self) -> None:
        self._seen: Dict[str, _Seen] = {}
        self.entries: Dict[str, Entry] = {}

    def read(self, encoded: Dict[bytes, bytes], now: float) -> None:
        """Take over the entries that are in Redis now.

        Args:
            encoded: the encoded entries by worker.
            now: the time of the read, by this process's monotonic clock.
        """
        self.entries = {name.decode(): orjson.loads(entry) for name, entry in encoded.items()}
        before, self._seen = self._seen, {}
        for name, entry in self.entries.items():
            last = before.get(name)
            if last is None:
                self._seen[name] = _Seen(entry["beat"], now, False)
            else:
                self._seen[name] = last if last.beat == entry["beat"] else _Seen(entry["beat"], now, True)

    def alive(self, now: float, within_s: float = ALIVE_S, surely: bool = False) -> List[Entry]:
        """Return the entries of the living workers. `surely` leaves out workers whose beat was not yet seen to go up.

        Args:
            now: the present time, by this process's monotonic clock.
            within_s: a worker counts as living for this long after its beat went up.
            surely: whether the beat must have gone up since this process first saw it.
        """
        return [
            self.entries[name]
            for name, seen in self._seen.items()
            if now - seen.at < within_s and (seen.moved or not surely)
        ]


class Tracks:
    """This worker's place in a release. Belongs to the event loop's thread."""

    def __init__(
        self,
        servers: Servers,
        prefix: str,
        own: str,
        path: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the plan; blocks.

        Args:
            servers: hold the entries.
            prefix: first part of every key.
            own: this worker's track.
            path: the plan's file.
            clock: monotonic, in s.

        Raises:
            SettingsError: the track's name is wrong, or the plan can't be read.
        """
        if own not in TRACKS:
            raise SettingsError("KEFU_TRACK", "must be blue or green")
        self.plan = Plan.read(path)
        self._path, self._clock = path, clock
        self._servers = servers
        self._own = own
        self._keys = {track: track_workers(prefix, track) for track in TRACKS}
        self._domain_key = track_domain(prefix, own)
        self._others = Track()
        self._name = f"{socket.gethostname()}/{uuid.uuid4().hex[:6]}"
        self._beat = 0
        self._tidied: Dict[bytes, int] = {}  # by worker of this track, its beat at the last `_tidy`
        # When the other track's entries were read last, and since when they were read without a gap above UNSEEN_S.
        self._read_at = self._sees_since = float("-inf")

    @property
    def other(self) -> str:
        """The other track's name."""
        return TRACKS[1 - TRACKS.index(self._own)]

    def inbox(self, current: str) -> str:
        """Return the inbox to read, given the one that is being read.

        The active track's workers read `user.query`. The other track leaves it once all living workers of the active
        track read it; until then both tracks read it, as in a rolling update. If no worker of the active track lives,
        the other track takes `user.query` over, but only after it has read the entries for long enough: while Redis
        doesn't answer, nothing is known of the living workers.
        """
        if self.plan.active == self._own:
            return USER_QUERY
        active = self._others.alive(self._clock())
        if active:
            return CANDIDATE_QUERY if all(each["inbox"] == USER_QUERY for each in active) else current
        return USER_QUERY if self._has_looked() else current

    def lends(self, conversation: str) -> bool:
        """Return whether the release gives this conversation to a candidate that is alive to answer it."""
        if not self.plan.lends(conversation):
            return False
        alive = self._others.alive(self._clock(), LENDING_ALIVE_S, surely=True)
        return any(each["inbox"] == CANDIDATE_QUERY for each in alive)

    async def beat(self, inbox: str, model_id: str, domain: Callable[[], Entry]) -> None:
        """Write this worker's entry, read the others' entries and the plan.

        Args:
            inbox: the inbox that is read; empty while none is.
            model_id: of the serving model.
            domain: returns the parts of the domain that conversations rely on, see `kefu.worker.release.relied`.

        Raises:
            StoreUnavailable: the last known state stays in use.
        """
        await self._read_plan()
        key, beat = self._keys[self._own], self._beat
        self._beat += 1
        entry = {"beat": beat, "inbox": inbox, "model": model_id, **_turns()}
        commands = [("HSET", key, self._name, orjson.dumps(entry)), ("EXPIRE", key, FORGOTTEN_S)]
        await self._servers.on(key, *commands)
        if beat % TIDY_BEATS == 0:
            await self._servers.on(
                self._domain_key, ("SET", self._domain_key, orjson.dumps(domain()), "EX", FORGOTTEN_S)
            )
            await self._tidy(key)
        entries = await self._workers(self._keys[self.other])
        self._note_read()
        self._others.read(entries, self._read_at)

    async def leave(self) -> None:
        """Remove this worker's entry. Raises StoreUnavailable; other workers then see that the beat stands still."""
        key = self._keys[self._own]
        await self._servers.on(key, ("HDEL", key, self._name))

    def _note_read(self) -> None:
        """Remember that the other track's entries were read now."""
        now = self._clock()
        if now - self._read_at > UNSEEN_S:
            self._sees_since = now
        self._read_at = now

    def _has_looked(self) -> bool:
        """Return whether the entries were read for ALIVE_S up to now, without a gap of more than UNSEEN_S."""
        now = self._clock()
        return now - self._read_at <= UNSEEN_S and now - self._sees_since >= ALIVE_S

    async def _read_plan(self) -> None:
        try:
            plan = await asyncio.get_running_loop().run_in_executor(None, Plan.read, self._path)
        except SettingsError as error:  # the file is being replaced, or is wrong: the plan read before stays in use
            logger.warning("the release's plan can't be read", extra={"fields": {"error": str(error)}})
            return
        if plan != self.plan:
            fields = {"active": plan.active, "tenants": len(plan.tenants), "percent": plan.percent}
            logger.info("the release's plan changed", extra={"fields": fields})
        self.plan = plan

    async def _tidy(self, key: str) -> None:
        """Remove the entries of this track whose beat stood still since the last call."""
        beats = {name: orjson.loads(entry)["beat"] for name, entry in (await self._workers(key)).items()}
        dead = [name for name, beat in beats.items() if self._tidied.get(name) == beat]
        if dead:
            await self._servers.on(key, ("HDEL", key, *dead))
        self._tidied = beats

    async def _workers(self, key: str) -> Dict[bytes, bytes]:
        (entries,) = await self._servers.on(key, ("HGETALL", key))
        return pairs(entries)


def pairs(flat: List[bytes]) -> Dict[bytes, bytes]:
    """Return the flat list of an HGETALL as a dict."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _turns() -> Dict[str, int]:
    """Return how many messages this process has finished, and how many of these failed."""
    done = {
        each.labels["outcome"]: each.value
        for metric in metrics.TURNS.collect()
        for each in metric.samples
        if "outcome" in each.labels
    }
    counted = {name: value for name, value in done.items() if name != "repeated"}
    return {"turns": int(sum(counted.values())), "failed": int(sum(counted.values()) - counted.get("answered", 0))}
