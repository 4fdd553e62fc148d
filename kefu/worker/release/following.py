"""Follows a release: writes this worker's entry to Redis each second, and changes the inbox that the worker reads.

In: the state of the tracks. Out: a call that changes the inbox, if this worker must read another one.
"""

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Awaitable, Callable, Optional, Protocol

from kefu.errors import StoreUnavailable
from kefu.events import CANDIDATE_QUERY
from kefu.settings import WorkerSettings
from kefu.worker.release.relied import relied
from kefu.worker.release.tracks import BEAT_S, Tracks
from kefu.worker.storage.servers import Servers

if TYPE_CHECKING:
    from rasa.shared.core.domain import Domain

logger = logging.getLogger(__name__)


class Serving(Protocol):
    """The serving model, as far as a release needs it."""

    model_id: str
    domain: "Domain"


def tracks_of(settings: WorkerSettings, servers: Servers, prefix: str) -> Optional[Tracks]:
    """Return this worker's place in a release, None without a release. Blocks while it reads the plan.

    Raises:
        SettingsError: the track's name is wrong, or the plan can't be read.
    """
    if not settings.track:
        return None
    return Tracks(servers, prefix, settings.track, settings.release_plan)


class Following:
    """A worker that follows a release. Belongs to the event loop's thread."""

    def __init__(
        self,
        tracks: Tracks,
        serving: Callable[[], Serving],
        connected: Callable[[], bool],
        change: Callable[[str], Awaitable[None]],
        every_s: float = BEAT_S,
    ) -> None:
        """Create the follower; its beats begin with `start`.

        Args:
            tracks: this worker's place in the release.
            serving: returns the serving model, which is reported to the other track.
            connected: whether the inbox is being read.
            change: finishes the messages taken, and reads another inbox.
            every_s: the time between two beats.
        """
        self._tracks, self._serving, self._connected, self._change = tracks, serving, connected, change
        self._every_s, self._inbox = every_s, ""
        self._task: Optional[asyncio.Task[None]] = None

    @property
    def ended(self) -> bool:
        """Whether an error has ended the task that writes this worker's beats."""
        return self._task is not None and self._task.done()

    async def first_inbox(self) -> str:
        """Report this worker, read the others' reports, and return the inbox to read first."""
        await self._beat()
        self._inbox = self._tracks.inbox(CANDIDATE_QUERY)
        return self._inbox

    def start(self) -> None:
        """Start the task that writes this worker's beats and follows the release."""
        self._task = asyncio.ensure_future(self._follow())

    async def leave(self) -> None:
        """Stop the beats, and remove this worker's entry."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):  # the other workers then see that the beat stands still
            await self._tracks.leave()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            await self._beat()
            wanted = self._tracks.inbox(self._inbox)
            if wanted != self._inbox:
                await self._change(wanted)
                self._inbox = wanted

    async def _beat(self) -> None:
        """Report this worker: its model and the inbox that it reads, none while it is not connected."""
        inbox, model = self._inbox if self._connected() else "", self._serving()
        try:
            await self._tracks.beat(inbox, model.model_id, lambda: relied(model.domain))
        except StoreUnavailable as error:  # the last known state of the other track stays in use
            logger.warning("the release waits", extra={"fields": {"error": str(error)}})
