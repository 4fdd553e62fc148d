"""The checks before a switch of tracks, and conversations that rely on parts a new model lacks."""

import json
from types import SimpleNamespace

import pytest

from kefu.events import CANDIDATE_QUERY, USER_QUERY
from kefu.worker.conversation.events import as_stored
from kefu.worker.conversation.stored import Stored
from kefu.worker.release import command
from kefu.worker.release.relied import missing, relied
from kefu.worker.release.tracks import ALIVE_S
from kefu.worker.turns.live import LiveConversation
from tests.worker.tracks import beat, tracks_of


def test_domains_are_compared_by_name_and_type(agent):
    """Compared are the slots, forms and intents that conversations rely on."""
    had = relied(agent.domain)
    assert not missing(had, had) and "track_order_form" in had["forms"]
    less = {**had, "slots": {**had["slots"], "order_number": "float"}, "forms": had["forms"][1:], "intents": []}
    differences = missing(had, less)
    assert "slot order_number is float, not text" in differences and f"form {had['forms'][0]} is missing" in differences
    assert len(differences) == 2 + len(had["intents"])


@pytest.mark.asyncio
async def test_conversation_in_an_unknown_form_continues_without_it(chat, agent, conversations):
    outcome = await chat.say("我的订单到哪了")
    events = json.loads(json.dumps(as_stored(outcome.events)).replace("track_order_form", "form_of_the_candidate"))
    assert "form_of_the_candidate" in str(events)
    stored = Stored(version=1, seq=1, turns=[events])
    chat.live = LiveConversation.restore("demo:alice", agent.processor.view, stored)
    assert chat.live.tracker.active_loop_name is None and chat.live.turn_sizes[0] == len(events) + 1
    answer = (await chat.say("hello")).answer
    assert answer.status == "answered" and answer.actions == ["utter_greet", "action_listen"]


def entry(inbox=CANDIDATE_QUERY, model="m", turns=0, failed=0):
    return {"inbox": inbox, "model": model, "turns": turns, "failed": failed}


@pytest.mark.parametrize(
    ("own", "others", "sentence"),
    [
        ([], [], "no worker of green lives"),
        ([entry(inbox="")], [], "1 of 1 workers of green read nothing yet"),
        ([entry(), entry(model="n")], [], "different models"),
        ([entry()], [entry(), entry()], "green has 1 workers, the other track 2"),
    ],
)
def test_switch_to_a_track_that_cannot_serve_is_refused(own, others, sentence):
    assert sentence in "\n".join(command.about_workers("green", own, others))
    assert not command.about_workers("green", [entry(), entry()], [entry(USER_QUERY)])


def test_fewer_workers_are_allowed_on_request():
    assert not command.about_workers("green", [entry()], [entry(), entry()], fewer=True)


def test_failures_are_compared_from_enough_turns_on():
    usual = [entry(turns=1000, failed=10)]
    assert not command.about_turns([entry(turns=19, failed=19)], usual)
    assert not command.about_turns([entry(turns=100, failed=3)], usual)
    assert (
        "4.0% of its 100 turns failed, 1.0% of the other" in command.about_turns([entry(turns=100, failed=4)], usual)[0]
    )
    assert not command.about_turns([entry(turns=100, failed=1)], [])


@pytest.mark.asyncio
async def test_missing_parts_of_the_new_domain_are_reported(conversations, plan_file, clock, agent):
    """Conversations rely on slots, forms and intents that the new domain lacks. The switch back reports nothing."""
    path, prefix = plan_file(), conversations.keys("x").prefix
    blue, green = (tracks_of(conversations, track, path, clock) for track in ("blue", "green"))
    had = relied(agent.domain)
    await blue.beat(USER_QUERY, "m", lambda: had)
    assert await command._about_domains(conversations, prefix, "green", "blue") == []
    await green.beat(CANDIDATE_QUERY, "n", lambda: {**had, "forms": []})
    complaints = await command._about_domains(conversations, prefix, "green", "blue")
    assert len(complaints) == len(had["forms"]) and "form track_order_form is missing" in "\n".join(complaints)
    assert await command._about_domains(conversations, prefix, "blue", "green") == [], "the way back drops nothing"


@pytest.mark.asyncio
@pytest.mark.parametrize("late", [1, 2, command.MOST_BEATS])
async def test_live_workers_are_told_from_dead_ones(conversations, plan_file, clock, monkeypatch, late):
    path, prefix = plan_file(), conversations.keys("x").prefix
    dead, lives = (tracks_of(conversations, "blue", path, clock) for _ in range(2))
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        if len(slept) % late == 0:
            await beat(lives, USER_QUERY, "lives")

    monkeypatch.setattr(command, "asyncio", SimpleNamespace(sleep=sleep))
    await beat(lives, USER_QUERY, "lives")
    workers = await command.alive(conversations, prefix)
    assert [each["model"] for each in workers["blue"]] == ["lives"] and workers["green"] == []
    assert len(slept) == late, "nobody else is waited for"
    await beat(dead, USER_QUERY, "dead")
    slept.clear()
    workers = await command.alive(conversations, prefix)
    assert [each["model"] for each in workers["blue"]] == ["lives"] and workers["green"] == []
    assert sum(slept) == ALIVE_S


@pytest.mark.asyncio
async def test_answer_with_a_failed_action_counts_as_failed(chat, actions):
    good = (await chat.say("我的订单到哪了")).answer
    actions.answer = actions.broken
    bad = (await chat.say("20260001")).answer
    assert not command.failed(good) and command.failed(bad) and bad.status == "answered"
