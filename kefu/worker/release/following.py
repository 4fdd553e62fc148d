"""Follows a release: tells of this worker each second, and says which inbox it reads.

In: what the tracks tell. Out: a call to change the inbox, when another one is this worker's to read.
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
    """The model that serves."""

    model_id: str
    domain: "Domain"


def tracks_of(settings: WorkerSettings, servers: Servers, prefix: str) -> Optional[Tracks]:
    """Return this worker's place in a release, None without one; blocks once.

    Raises:
        SettingsError: there is no such track, or no plan.
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
        """Prepare; follows from `start` on.

        Args:
            tracks: this worker's place in the release.
            serving: returns the model that serves, for the others to know.
            connected: whether the inbox is being read.
            change: finishes what was taken, and reads another inbox.
            every_s: between two beats.
        """
        self._tracks, self._serving, self._connected, self._change = tracks, serving, connected, change
        self._every_s, self._inbox = every_s, ""
        self._task: Optional[asyncio.Task[None]] = None

    @property
    def ended(self) -> bool:
        """Whether an error ended it."""
        return self._task is not None and self._task.done()

    async def first_inbox(self) -> str:
        """Tell of this worker, look at the others, and return the inbox to read first."""
        await self._beat()
        self._inbox = self._tracks.inbox(CANDIDATE_QUERY)
        return self._inbox

    def start(self) -> None:
        """Begin to follow, in a task."""
        self._task = asyncio.ensure_future(self._follow())

    async def leave(self) -> None:
        """Follow no more, and take this worker's entry away."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        with contextlib.suppress(StoreUnavailable):  # then it is seen to be dead
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
        """Tell of this worker: which inbox it reads, none while it is not connected, and its model."""
        inbox, model = self._inbox if self._connected() else "", self._serving()
        try:
            await self._tracks.beat(inbox, model.model_id, lambda: relied(model.domain))
        except StoreUnavailable as error:  # what was known of the other track stays
            logger.warning("the release waits", extra={"fields": {"error": str(error)}})
