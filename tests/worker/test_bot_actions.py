"""After any conversation, the quick forms and slot extraction change a tracker as Rasa's do."""

import asyncio

from conversing import conversation, said
from hypothesis import HealthCheck, given, settings
from rasa.core.actions.action import ActionExecutionRejection, ActionExtractSlots
from rasa.core.actions.forms import FormAction
from rasa.core.channels.channel import CollectingOutputChannel
from rasa.core.nlg.response import TemplatedNaturalLanguageGenerator
from rasa.shared.core import events as e

from kefu.worker.act.bot_actions import BotActions

ALL = {"max_examples": 400, "deadline": None, "suppress_health_check": list(HealthCheck)}


def trackers_after(bank, script, message):
    """Return Kefu's tracker and Rasa's after the same events."""
    live, plain = bank.trackers()
    for event in [*(event for part in script for event in part), e.ActionExecuted("action_listen"), message]:
        plain.update(event)
        live.update(event)
    return live, plain


def run(action, bank, tracker):
    """Return the texts, slots and active loop after an action, or "declined"."""
    channel, nlg = CollectingOutputChannel(), TemplatedNaturalLanguageGenerator(bank.domain.responses)
    try:
        events = asyncio.run(action.run(channel, nlg, tracker, bank.domain))
    except ActionExecutionRejection:
        return "declined"
    tracker.update_with_events(events, bank.domain)
    texts = [event.text for event in events if isinstance(event, e.BotUttered)]
    return texts, tracker.current_slot_values(), tracker.active_loop


@settings(**ALL)
@given(script=conversation, message=said)
def test_slots_are_filled_from_any_message_as_by_rasa(bank, script, message):
    live, plain = trackers_after(bank, script, message)
    quick = BotActions(bank.domain, None)["action_extract_slots"]
    assert run(quick, bank, live) == run(ActionExtractSlots(None), bank, plain)


@settings(**ALL)
@given(script=conversation, message=said)
def test_forms_ask_fill_and_decline_as_in_rasa(bank, script, message):
    for form in ("transfer_form", "card_form"):
        live, plain = trackers_after(bank, script, message)
        quick = BotActions(bank.domain, None)
        assert run(quick["action_extract_slots"], bank, live) == run(ActionExtractSlots(None), bank, plain)
        assert run(quick[form], bank, live) == run(FormAction(form, None), bank, plain), form
