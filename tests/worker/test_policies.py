"""The quick policies and states equal Rasa's at every step of any conversation."""

import copy
import random
from pathlib import Path

import pytest
from conversing import ENTITIES, INTENTS, Both, conversation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasa.core.policies.memoization import MemoizationPolicy
from rasa.core.policies.rule_policy import RulePolicy
from rasa.shared.core import events as e
from rasa.shared.core.constants import DEFAULT_INTENTS
from rasa.shared.core.training_data.story_reader.yaml_story_reader import YAMLStoryReader

from kefu.worker.engine.states import History
from kefu.worker.turns.live import snapshot_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def shipped():
    """The project's own model, which `make train` writes."""
    return Both(ROOT / "models" / "kefu.tar.gz")


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=conversation)
def test_any_events_give_rasas_states_and_predictions(bank, script):
    live, plain = bank.trackers()
    for event in (event for part in script for event in part):
        plain.update(event)
        live.update(event)
        bank.compare(live, plain)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(script=conversation, later=conversation, cut=st.integers(0, 40))
def test_trimmed_history_equals_one_without_the_beginning(bank, script, later, cut):
    """`begun_with` replaces the first events by their snapshot; policies then see the same states."""
    events = [copy.deepcopy(event) for part in script for event in part]
    cut = min(cut, len(events))
    past, whole, fresh = bank.trackers()[0], History(bank.view), History(bank.view)
    for event in events[:cut]:
        past.update(event)
    beginning = snapshot_of(past)
    if not all(whole.add(event) for event in events):
        return
    followed = all(fresh.add(event) for event in [*beginning, *events[cut:]])
    replaced = whole.begun_with(beginning, events[cut:])
    assert followed or replaced is None or replaced.applied
    for event in [None, *(event for part in later for event in part)] if followed else []:
        if event is not None and not replaced.add(event) & fresh.add(event):
            return
        assert [*map(id, replaced.applied)] == [*map(id, fresh.applied)]
        assert replaced.states() == fresh.states() and replaced.learned_states() == fresh.learned_states()
        assert replaced._marks == fresh._marks and replaced._fold == fresh._fold


@pytest.mark.parametrize("seed", range(40))
def test_random_conversations_are_decided_as_by_rasa(bank, seed):
    """Each step follows the prediction, with forms, rejections and changes of topic."""
    walk(bank, INTENTS[:-1], ENTITIES, random.Random(seed))


@pytest.mark.parametrize("seed", range(40))
def test_shipped_model_decides_conversations_as_rasa_does(shipped, seed):
    entities = [[], [{"entity": "order_number", "value": "20260001"}], [{"entity": "language", "value": "en"}]]
    intents = sorted(set(shipped.domain.intents) - set(DEFAULT_INTENTS))
    walk(shipped, intents, entities, random.Random(seed))


def test_shipped_model_decides_test_stories_as_rasa_does(shipped):
    reader = YAMLStoryReader(shipped.domain)
    stories = reader.read_from_file(ROOT / "tests" / "dialogue" / "test_stories.yml")
    assert len(stories) > 90
    for story in stories:
        live, plain = shipped.trackers()
        for event in story.events:
            heard = [e.ActionExecuted("action_listen")] if type(event) is e.UserUttered else []
            for each in (*heard, event):
                plain.update(each), live.update(each)
                shipped.compare(live, plain)


def walk(bank, intents, entities, chance):
    live, plain = bank.trackers()
    start = [e.ActionExecuted("action_session_start"), e.SessionStarted(), e.ActionExecuted("action_listen")]
    for event in start:
        plain.update(event), live.update(event)
    for _ in range(12):
        message = e.UserUttered("text", {"name": chance.choice(intents)}, list(chance.choice(entities)))
        plain.update(message), live.update(message)
        for _ in range(6):
            bank.compare(live, plain)
            for event in follow(bank, plain, chance):
                plain.update(event), live.update(event)
            if plain.latest_action_name == "action_listen":
                break


def follow(bank, tracker, chance):
    """Return the events of the action that stock Rasa would run."""
    rules, memory = bank.stock[RulePolicy], bank.stock[MemoizationPolicy]
    predictions = [
        policy.predict_action_probabilities(tracker, bank.domain, bank.rule_only) for policy in (memory, rules)
    ]
    best = max(predictions, key=lambda each: (each.is_no_user_prediction, each.max_confidence))
    action = bank.domain.action_names_or_texts[best.max_confidence_index]
    before = [e.DefinePrevUserUtteredFeaturization(False)] if tracker.latest_action_name == "action_listen" else []
    if action.endswith("_form"):
        if tracker.active_loop_name == action and chance.random() < 0.4:
            return [e.ActionExecutionRejected(action)]
        done = chance.random() < 0.3
        opened = [] if tracker.active_loop_name == action else [e.ActiveLoop(action)]
        asked = [e.SlotSet("requested_slot", None), e.ActiveLoop(None)] if done else [e.SlotSet("requested_slot", "x")]
        return [*before, *best.events, e.ActionExecuted(action), *opened, *asked]
    event = e.ActionExecuted(action, hide_rule_turn=best.hide_rule_turn)
    return [*before, *best.events, event, *([e.ActiveLoop(None)] if action == "action_deactivate_loop" else [])]
