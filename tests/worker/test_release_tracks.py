"""Two tracks of workers: which one reads the inbox, which workers live, which messages are lent."""

import pytest

from kefu.errors import SettingsError, StoreUnavailable
from kefu.events import CANDIDATE_QUERY, USER_QUERY
from kefu.worker.release.plan import Plan
from kefu.worker.release.tracks import ALIVE_S, TIDY_BEATS
from tests.worker.tracks import beat, goes_on, tracks_of


def test_plan_lends_whole_tenants_and_a_stable_share_of_others(plan_file):
    """A lent conversation stays lent as the share grows."""
    plan = Plan.read(plan_file(tenants=["acme"], percent=12.5))
    assert all(plan.lends(f"acme:u{number}") for number in range(50))
    lent = {number for number in range(4000) if plan.lends(f"demo:u{number}")}
    assert 0.10 < len(lent) / 4000 < 0.15
    more = Plan.read(plan_file(percent=25))
    assert all(more.lends(f"demo:u{number}") for number in lent), "who was the candidate's stays so as the share grows"
    assert not any(Plan.read(plan_file()).lends(f"demo:u{number}") for number in range(100))
    assert all(Plan.read(plan_file(percent=100)).lends(f"demo:u{number}") for number in range(100))


@pytest.mark.parametrize("text", ["", "{}", '{"active": "red", "canary": {"tenants": [], "percent": 0}}', "[]"])
def test_invalid_plan_stops_the_start(tmp_path, text):
    (tmp_path / "release.json").write_text(text)
    with pytest.raises(SettingsError):
        Plan.read(str(tmp_path / "release.json"))
    with pytest.raises(SettingsError):
        Plan.read(str(tmp_path / "nowhere"))


@pytest.mark.asyncio
async def test_inbox_is_left_once_all_of_the_active_track_read_it(conversations, plan_file, clock):
    path = plan_file("blue")
    blue, green = (tracks_of(conversations, track, path, clock) for track in ("blue", "green"))
    second = tracks_of(conversations, "green", path, clock)
    for each, inbox in ((green, CANDIDATE_QUERY), (second, CANDIDATE_QUERY), (blue, USER_QUERY)):
        await beat(each, inbox)
    assert blue.inbox(USER_QUERY) == USER_QUERY and green.inbox(CANDIDATE_QUERY) == CANDIDATE_QUERY
    plan_file("green")
    await beat(blue, USER_QUERY)
    assert blue.inbox(USER_QUERY) == USER_QUERY, "nobody else reads it yet"
    await beat(green, USER_QUERY)
    await beat(blue, USER_QUERY)
    assert green.inbox(CANDIDATE_QUERY) == USER_QUERY and blue.inbox(USER_QUERY) == USER_QUERY
    await beat(second, USER_QUERY)
    await beat(blue, USER_QUERY)
    assert blue.inbox(USER_QUERY) == CANDIDATE_QUERY
    third = tracks_of(conversations, "green", path, clock)
    await beat(third, "")  # a starting worker changes nothing for the track that left
    await beat(blue, CANDIDATE_QUERY)
    assert blue.inbox(CANDIDATE_QUERY) == CANDIDATE_QUERY


@pytest.mark.asyncio
async def test_inbox_of_a_dead_active_track_is_taken_over(conversations, plan_file, clock):
    path = plan_file("green")
    blue, green = (tracks_of(conversations, track, path, clock) for track in ("blue", "green"))
    await goes_on(clock, 2 * ALIVE_S, (green, USER_QUERY), (blue, CANDIDATE_QUERY))
    assert blue.inbox(CANDIDATE_QUERY) == CANDIDATE_QUERY
    await goes_on(clock, ALIVE_S - 1, (blue, CANDIDATE_QUERY))
    assert blue.inbox(CANDIDATE_QUERY) == CANDIDATE_QUERY
    await goes_on(clock, 1, (blue, CANDIDATE_QUERY))
    assert blue.inbox(CANDIDATE_QUERY) == USER_QUERY
    await beat(green, USER_QUERY)
    await beat(blue, USER_QUERY)
    assert blue.inbox(USER_QUERY) == CANDIDATE_QUERY, "it is back"


@pytest.mark.asyncio
async def test_stopped_track_is_replaced_at_once(conversations, plan_file, clock):
    """A track that has never been seen may still be starting: ALIVE_S must pass first."""
    path = plan_file("green")
    blue, green = (tracks_of(conversations, track, path, clock) for track in ("blue", "green"))
    await beat(blue, "")
    assert blue.inbox(CANDIDATE_QUERY) == CANDIDATE_QUERY, "green may be starting"
    await goes_on(clock, ALIVE_S, (blue, CANDIDATE_QUERY))
    assert blue.inbox(CANDIDATE_QUERY) == USER_QUERY
    await beat(green, USER_QUERY)
    await beat(blue, USER_QUERY)
    assert blue.inbox(USER_QUERY) == CANDIDATE_QUERY
    await green.leave()
    await beat(blue, CANDIDATE_QUERY)
    assert blue.inbox(CANDIDATE_QUERY) == USER_QUERY


@pytest.mark.asyncio
async def test_store_outage_counts_no_worker_as_dead(conversations, plan_file, clock, monkeypatch):
    path = plan_file("green")
    blue, green = (tracks_of(conversations, track, path, clock) for track in ("blue", "green"))
    await goes_on(clock, 2 * ALIVE_S, (green, USER_QUERY), (blue, CANDIDATE_QUERY))

    async def away(*_):
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(conversations.servers, "on", away)
        for _ in range(int(3 * ALIVE_S)):
            clock.now += 1
            with pytest.raises(StoreUnavailable):
                await beat(blue, CANDIDATE_QUERY)
            assert blue.inbox(CANDIDATE_QUERY) == CANDIDATE_QUERY
    await beat(blue, CANDIDATE_QUERY)
    assert blue.inbox(CANDIDATE_QUERY) == CANDIDATE_QUERY, "it is back, and green has not told yet"
    await green.leave()  # as when the store has lost its entries
    await goes_on(clock, ALIVE_S - 1, (blue, CANDIDATE_QUERY))
    assert blue.inbox(CANDIDATE_QUERY) == CANDIDATE_QUERY
    await goes_on(clock, 1, (blue, CANDIDATE_QUERY))
    assert blue.inbox(CANDIDATE_QUERY) == USER_QUERY


@pytest.mark.asyncio
async def test_candidate_without_a_new_beat_gets_no_message(conversations, plan_file, clock):
    path = plan_file("blue", percent=100)
    dead, blue = (tracks_of(conversations, track, path, clock) for track in ("green", "blue"))
    await beat(dead, CANDIDATE_QUERY)
    await beat(blue, USER_QUERY, times=2)
    assert not blue.lends("demo:alice"), "an entry without a beat may be a dead worker's"
    await beat(dead, CANDIDATE_QUERY)
    await beat(blue, USER_QUERY)
    assert blue.lends("demo:alice")
    plan_file("blue", percent=0)
    await beat(blue, USER_QUERY)
    assert not blue.lends("demo:alice")
    plan_file("blue", tenants=["demo"])
    clock.now += ALIVE_S
    await beat(blue, USER_QUERY)
    assert not blue.lends("demo:alice"), "the beat stood still"


@pytest.mark.asyncio
async def test_plan_that_becomes_unreadable_changes_nothing(conversations, plan_file, clock, tmp_path):
    blue = tracks_of(conversations, "blue", plan_file("blue", tenants=["demo"]), clock)
    (tmp_path / "release.json").write_text("{")
    await beat(blue, USER_QUERY)
    assert blue.plan.tenants == {"demo"}


@pytest.mark.asyncio
async def test_entries_of_dead_workers_are_removed(conversations, plan_file, clock):
    path = plan_file()
    dead, blue, green = (tracks_of(conversations, track, path, clock) for track in ("blue", "blue", "green"))
    await beat(dead, USER_QUERY)
    await beat(blue, USER_QUERY, times=2 * TIDY_BEATS + 1)
    await beat(green, CANDIDATE_QUERY)
    assert len(green._others.entries) == 1
