"""Random conversations, and a model with Rasa's policies and their stand-ins."""

import os
from pathlib import Path
from unittest import mock

from hypothesis import strategies as st
from rasa.core.policies.memoization import MemoizationPolicy
from rasa.core.policies.rule_policy import RulePolicy
from rasa.core.processor import MessageProcessor
from rasa.engine.caching import CACHE_LOCATION_ENV
from rasa.model_training import train
from rasa.shared.core import events as e
from rasa.shared.core.trackers import DialogueStateTracker

from kefu.worker.engine.domain_view import DomainView
from kefu.worker.engine.model import LoadedModel
from kefu.worker.engine.policies import QuickMemoizationPolicy, QuickRulePolicy
from kefu.worker.engine.processor import rule_only
from kefu.worker.engine.tracker import LiveTracker

BANK = Path(__file__).parent / "bank"


class Both:
    """A model's policies as Rasa loads them, and their stand-ins."""

    def __init__(self, path):
        metadata, runner = MessageProcessor._load_model(str(path))[1:]
        self.domain = metadata.domain
        self.stock = {type(node._component): node._component for node in runner._instantiated_nodes.values()}
        quick = LoadedModel.of(str(path), metadata, runner).runner
        self.quick = {type(each): each for each in quick.components.values()}
        self.rule_only = rule_only(quick)
        self.view = DomainView(self.domain, self.rule_only)

    def trackers(self):
        return LiveTracker("demo:alice", self.view), DialogueStateTracker("demo:alice", self.domain.slots)

    def compare(self, live, plain):
        """Assert that both trackers give policies the same input and both kinds of policies predict the same."""
        assert [*map(id, live.applied_events())] == [*map(id, plain.applied_events())]
        assert live.current_slot_values() == plain.current_slot_values()
        assert live.latest_action_name == plain.latest_action_name and live.active_loop == plain.active_loop
        assert live.followup_action == plain.followup_action and live.is_paused() == plain.is_paused()
        for hidden in (False, True):
            mine, theirs = (states_of(tracker, self.domain, hidden, self.rule_only) for tracker in (live, plain))
            assert mine == theirs
        if not mine:
            return  # every turn is hidden: Rasa's policy would have no state
        for stock, quick in ((RulePolicy, QuickRulePolicy), (MemoizationPolicy, QuickMemoizationPolicy)):
            given = {"domain": self.domain, "rule_only_data": self.rule_only}
            mine = self.quick[quick].predict_action_probabilities(live, **given)
            theirs = self.stock[stock].predict_action_probabilities(plain, **given)
            assert mine == theirs, (stock.__name__, mine.__dict__, theirs.__dict__)


def states_of(tracker, domain, hidden, rule_only):
    """Return the states without the texts, which no policy reads."""
    states = tracker.past_states(domain, ignore_rule_only_turns=hidden, rule_only_data=rule_only)
    for state in states:
        if "intent" in state.get("user", {}):
            state["user"].pop("text", None)
    return states


def trained_bank(out):
    """Train a model whose rules and stories use every feature of the two policies."""
    with mock.patch.dict(
        os.environ, {CACHE_LOCATION_ENV: str(out / "cache")}
    ):  # the project's cache belongs to `rasa train`
        trained = train(str(BANK / "domain.yml"), str(BANK / "config.yml"), str(BANK / "data.yml"), output=str(out))
    return Both(trained.model)


INTENTS = "greet ask transfer block_card inform affirm deny stop thank chitchat restart".split()
ENTITIES = [[], [], [{"entity": "amount", "value": "5"}], [{"entity": "person", "value": "Bo"}]]
ENTITIES.append([{"entity": "city", "value": "Paris", "role": "from"}])
ACTIONS = "utter_greet utter_welcome utter_more utter_done action_default_fallback transfer_form card_form".split()
SLOTS = [("tier", "gold"), ("tier", "lead"), ("known", False), ("known", True), ("topic", "loans"), ("topic", None)]
SLOTS += [("note", "x"), ("requested_slot", "amount"), ("requested_slot", None), ("person", "Bo")]
said = st.builds(
    lambda intent, entities, text: e.UserUttered(text, {"name": intent} if intent else {}, [dict(x) for x in entities]),
    st.sampled_from([*INTENTS, None]),
    st.sampled_from(ENTITIES),
    st.sampled_from(["hello", "你好", ""]),
)
acted = st.builds(
    lambda name, hide: e.ActionExecuted(name, hide_rule_turn=hide),
    st.sampled_from([*ACTIONS, "action_listen", "action_listen"]),
    st.booleans(),
)
loops = st.builds(e.ActiveLoop, st.sampled_from(["transfer_form", "card_form", None]))
others = st.one_of(
    st.builds(lambda slot: e.SlotSet(*slot), st.sampled_from(SLOTS)),
    st.builds(lambda: e.BotUttered("hi")),
    st.builds(e.ActionExecutionRejected, st.sampled_from(["transfer_form", "card_form"])),
    st.builds(e.DefinePrevUserUtteredFeaturization, st.just(False)),
    st.builds(e.LoopInterrupted, st.booleans()),
    st.builds(lambda name: e.FollowupAction(name), st.sampled_from(ACTIONS)),
    st.builds(lambda: e.EntitiesAdded([{"entity": "person", "value": "Bo"}])),
)
rare = st.sampled_from([e.ActionReverted, e.UserUtteranceReverted, e.Restarted, e.SessionStarted]).map(lambda k: k())
rare |= st.sampled_from([e.AllSlotsReset, e.ConversationPaused, e.ConversationResumed]).map(lambda k: k())
turn = st.builds(
    lambda message, *rest: [e.ActionExecuted("action_listen"), message, *rest],
    said,
    st.builds(e.DefinePrevUserUtteredFeaturization, st.just(False)),
    acted,
)
run_of_form = st.builds(
    lambda form, slot, first: [
        e.ActionExecuted(form),
        *([e.ActiveLoop(form)] if first else []),
        e.SlotSet("requested_slot", slot),
    ],
    st.sampled_from(["transfer_form", "card_form"]),
    st.sampled_from(["amount", "person", None]),
    st.booleans(),
)
one = st.one_of(said, acted, loops, others).map(lambda event: [event])
conversation = st.lists(st.one_of(turn, turn, run_of_form, run_of_form, one, one, rare.map(lambda x: [x])), max_size=14)
