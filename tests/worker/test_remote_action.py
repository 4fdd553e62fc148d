"""Requests to the action server and checks of its answers: Rasa's, but cheaper."""

import copy

import pytest
from jsonschema import ValidationError
from rasa.core.actions.action import RemoteAction
from rasa.shared.core.events import deserialise_events
from rasa.shared.core.trackers import EventVerbosity

from kefu.worker.act.remote_action import EVENTS_FOR_ACTIONS, QuickRemoteAction
from kefu.worker.conversation.events import read_events
from tests.worker.conftest import Chat

ANSWERS = [
    {"events": [], "responses": []},
    {},
    {"events": [{"event": "slot", "name": "a", "value": None, "timestamp": None}], "responses": [{"text": "hi"}]},
    {"events": [{"event": "slot", "name": "a"}]},
    {"events": [{"event": "slot", "name": 7, "value": 1}]},
    {"events": [{"event": "active_loop", "name": None}, {"event": "followup", "name": "x", "metadata": {}}]},
    {"events": [{"event": "followup", "name": "x", "timestamp": "now"}]},
    {"events": [{"event": "user", "text": "hi", "parse_data": {"entities": [{"entity": "a", "value": 1}]}}]},
    {"events": [{"event": "user", "text": 7}]},
    {"events": [{"event": "entities", "entities": [{"value": 1}]}]},
    {"events": [{"event": "none of these"}]},
    {"events": [{"name": "without event"}]},
    {"events": {}},
    {"events": [7]},
    {"responses": ["hi"]},
    [],
]


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
def test_answers_are_validated_as_by_rasa(answer):
    def accepted(action):
        try:
            return action._validate_action_result(copy.deepcopy(answer))
        except ValidationError as error:
            return type(error)

    assert accepted(QuickRemoteAction("action_x", None)) == accepted(RemoteAction("action_x", None))


@pytest.mark.asyncio
async def test_action_gets_the_request_that_rasa_sends(agent):
    """A long conversation is sent with its last EVENTS_FOR_ACTIONS events."""
    chat = Chat(agent)
    await chat.say("where is my order 20260001?")
    tracker, domain = chat.live.tracker, agent.domain
    mine, theirs = (
        kind("action_x", None)._action_call_format(tracker, domain) for kind in (QuickRemoteAction, RemoteAction)
    )
    assert mine == theirs
    for _ in range(20):
        await chat.say("谢谢")
    events = QuickRemoteAction("action_x", None)._action_call_format(chat.live.tracker, domain)["tracker"]["events"]
    assert events == chat.live.tracker.current_state(EventVerbosity.ALL)["events"][-EVENTS_FOR_ACTIONS:]


@pytest.mark.asyncio
async def test_events_are_read_as_by_rasa(agent):
    chat = Chat(agent)
    for text in ("hello", "where is my order 20260001?", "谢谢"):
        await chat.say(text)
    stored = [event.as_dict() for event in chat.live.tracker.events]
    for mine, theirs in zip(read_events(stored), deserialise_events(stored), strict=True):
        assert type(mine) is type(theirs) and mine.as_dict() == theirs.as_dict()
    with pytest.raises(ValueError, match="nonesuch"):
        read_events([{"event": "nonesuch"}])


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [
        {"responses": [{"text": "x", "buttons": ["yes"]}]},
        {"responses": [{"text": "x", "quick_replies": {"title": "yes"}}]},
        {"responses": [{"text": ["x"]}]},
        {"events": [{"event": "bot", "text": "x", "data": ["yes"]}]},
        {"events": [{"event": "bot", "text": "x", "data": {"buttons": ["yes"]}}]},
    ],
    ids=str,
)
async def test_malformed_response_fails_the_action_not_the_turn(chat, actions, answer):
    async def answered(_):
        return answer

    actions.answer = answered
    outcome = await chat.say("where is my order 20260001?")
    assert outcome.answer.status == "answered"
    assert [event.metadata.get("utter_action") for event in outcome.events if event.type_name == "bot"] == [
        "utter_action_failed"
    ]
