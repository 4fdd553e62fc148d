"""A worker follows its release: the inbox that it reads and the entry that it writes."""

import asyncio
from types import SimpleNamespace

import pytest
import pytest_asyncio

from kefu.errors import StoreUnavailable
from kefu.events import CANDIDATE_QUERY, USER_QUERY
from kefu.worker.release.following import Following

pytestmark = pytest.mark.asyncio
DEADLINE_S = 20


class Tracks:
    """Stand-in for the tracks: the test sets the inbox. test_release_tracks.py tests the real ones."""

    def __init__(self):
        self.wanted, self.away, self.beats, self.left = CANDIDATE_QUERY, False, [], False

    def inbox(self, current):
        return self.wanted

    async def beat(self, inbox, model_id, domain):
        self.beats.append((inbox, model_id))
        if self.away:
            raise StoreUnavailable("away")

    async def leave(self):
        self.left = True
        if self.away:
            raise StoreUnavailable("away")


@pytest.fixture
def tracks():
    return Tracks()


@pytest.fixture
def changes():
    return []


@pytest_asyncio.fixture
async def following(tracks, changes):
    async def change(inbox):
        changes.append(inbox)
        if inbox == "broken":
            raise ValueError("a bug")

    made = Following(
        tracks, lambda: SimpleNamespace(model_id="m", domain=None), lambda: len(tracks.beats) > 0, change, 0.001
    )
    yield made
    await made.leave()


async def until(holds):
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not holds():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


async def test_worker_changes_its_inbox_once_when_the_release_does(following, tracks, changes):
    assert await following.first_inbox() == CANDIDATE_QUERY
    following.start()
    tracks.wanted = USER_QUERY
    await until(lambda: (USER_QUERY, "m") in tracks.beats)
    assert tracks.beats[:2] == [("", "m"), (CANDIDATE_QUERY, "m")], "none is read before it is connected"
    assert changes == [USER_QUERY] and not following.ended


async def test_worker_follows_its_release_through_a_store_outage(following, tracks, changes):
    tracks.away = True
    await following.first_inbox()
    following.start()
    await until(lambda: len(tracks.beats) > 3)
    assert changes == [] and not following.ended


async def test_failed_change_of_the_inbox_ends_following(following, tracks):
    await following.first_inbox()
    following.start()
    tracks.wanted = "broken"
    await until(lambda: following.ended)


async def test_leaving_worker_removes_its_entry(following, tracks):
    await following.first_inbox()
    following.start()
    await following.leave()
    beats = len(tracks.beats)
    await asyncio.sleep(0.01)
    assert tracks.left and len(tracks.beats) == beats
