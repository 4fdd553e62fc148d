"""Tracks of workers with a clock that the test sets."""

from kefu.worker.release.tracks import Tracks


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def tracks_of(conversations, own, path, clock):
    return Tracks(conversations.servers, conversations.keys("x").prefix, own, path, clock)


async def beat(tracks, inbox, model="m", times=1):
    for _ in range(times):
        await tracks.beat(inbox, model, lambda: {"slots": {}})


async def goes_on(clock, seconds, *beating):
    """Let time pass; each second the given tracks beat with the inbox that they read."""
    for _ in range(int(seconds)):
        clock.now += 1
        for tracks, inbox in beating:
            await beat(tracks, inbox)
