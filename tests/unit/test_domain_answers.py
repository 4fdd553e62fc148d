"""The domain's responses agree with the shop's rules."""

import re
from pathlib import Path

import pytest
import yaml

from kefu.events import CHANNELS
from ops.local.shop.demo_policies import POLICIES

DOMAIN = yaml.safe_load((Path(__file__).resolve().parents[2] / "domain.yml").read_text(encoding="utf-8"))
TEXTS = [(name, each.get("text", "")) for name, variants in DOMAIN["responses"].items() for each in variants]


@pytest.mark.parametrize(
    ("pattern", "of_the_shop"),
    [(r"[\w.+-]+@[\w.-]+\w", POLICIES["service"]["email"]), (r"\b\d{3}-\d{3}-\d{4}\b", POLICIES["service"]["phone"])],
)
def test_responses_name_only_the_shops_own_contact_data(pattern, of_the_shop):
    assert {found for _, text in TEXTS for found in re.findall(pattern, text, re.ASCII)} <= {of_the_shop}


def test_responses_contain_no_fixed_days_hours_or_percentages():
    """The action fills them in from the shop's rules."""
    fixed = re.compile(r"\d+ ?(?:天|小时|days?|hours?|%)")
    assert [(name, text) for name, text in TEXTS if fixed.search(text)] == []


# Responses that neither answer a question nor end a task: questions of forms, and responses that the platform gives
# once in a conversation.
SAID_ONE_WAY = ("utter_ask_", "utter_invalid_", "utter_handoff_", "utter_holding", "utter_action_failed",
                "utter_still_there", "utter_offer_person", "utter_cancel_order_refused_fee_changed")  # fmt: skip


def wordings(variants: list[dict], language: str, channel: str | None = None) -> list[dict]:
    """Return the variants that a customer of that language may get on that channel."""
    fitting = [each for each in variants if each.get("channel") == channel]
    conditional = [each for each in fitting if each.get("condition", [{}])[0].get("value") == language]
    return conditional or [each for each in fitting if "condition" not in each]


ANSWERS = {name: each for name, each in DOMAIN["responses"].items() if not name.startswith(SAID_ONE_WAY)}


WEB = {name: each for name, each in ANSWERS.items() if any("channel" in variant for variant in each)}


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize(("answers", "channel"), [(ANSWERS, None), (WEB, "web")])
def test_every_answer_has_two_wordings_in_each_language(answers, channel, language):
    few = {
        name: each
        for name, each in answers.items()
        if len({wording["text"] for wording in wordings(each, language, channel)}) < 2
    }
    assert (few, bool(answers)) == ({}, True)


def test_channels_of_responses_are_those_of_the_gateway():
    named = {variant["channel"] for each in DOMAIN["responses"].values() for variant in each if "channel" in variant}
    assert named <= set(CHANNELS)


def test_all_wordings_of_an_answer_have_the_same_blanks():
    def blanks(variant: dict) -> frozenset[str]:
        return frozenset(re.findall(r"\{(\w+)\}", f"{variant['text']} {variant.get('custom')}"))

    blanks_of = {
        name: {
            blanks(each) for lang in ("zh", "en") for channel in (None, "web") for each in wordings(them, lang, channel)
        }
        for name, them in ANSWERS.items()
    }
    assert {name for name, each in blanks_of.items() if len(each) > 1} == set()
