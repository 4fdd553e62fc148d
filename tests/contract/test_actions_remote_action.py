"""Rasa 3.6.21's own form and RemoteAction, on the shipped domain, against the action server and the shop."""

import json
import subprocess

import pytest

from tests.integration.shop_fixtures import ROOT, running_actions, running_shop

WORKER_PYTHON = ROOT / ".local/worker/bin/python"
ALICE = {"tenant": "demo", "user": "alice", "identified": True, "message_id": "m"}
GUEST = {"tenant": "demo", "user": "guest-1", "identified": False, "message_id": "m"}


def turn(text: str, **entities: str) -> dict:
    return {"text": text, "entities": [{"entity": name, "value": value} for name, value in entities.items()]}


CONVERSATIONS = {
    "alice_names_her_order": (ALICE, [turn("我的订单20260001到哪了", order_number="20260001", language="zh")]),
    "alice_is_asked": (ALICE, [turn("where is my order", language="en"), turn("20260003", order_number="20260003")]),
    "alice_mistypes": (ALICE, [turn("查订单"), turn("123"), turn("2026 0002")]),
    "guest_is_asked_for_both": (GUEST, [turn("查订单"), turn("20260004"), turn("*******1234")]),
    "guest_says_all_at_once": (GUEST, [turn("20260005 尾号1234", order_number="20260005", phone_last4="1234")]),
    "guest_is_wrong_at_first": (
        GUEST,
        [turn("20260001", order_number="20260001"), turn("9999"), turn("20260004"), turn("1234")],
    ),
}
SAID = {
    "alice_names_her_order": ["utter_order_shipped"],
    "alice_is_asked": ["utter_which_order", "utter_order_delivered"],
    "alice_mistypes": ["utter_which_order", "utter_invalid_order_number", "utter_which_order",
                       "utter_order_awaiting_payment"],
    "guest_is_asked_for_both": ["utter_ask_for_order_number", "utter_ask_phone_last4", "utter_order_cancelled"],
    "guest_says_all_at_once": ["utter_order_partly_refunded"],
    "guest_is_wrong_at_first": ["utter_ask_phone_last4", "utter_order_not_found", "utter_ask_for_order_number",
                                "utter_ask_phone_last4", "utter_order_cancelled"],
}  # fmt: skip


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    if not WORKER_PYTHON.exists():
        pytest.skip("the worker's environment is not set up: `make setup`")
    folder = tmp_path_factory.mktemp("contract")
    scripts = [{"metadata": metadata, "turns": turns} for metadata, turns in CONVERSATIONS.values()]
    with running_shop(folder) as shop, running_actions(folder, shop.url) as actions:
        shipped = shop.http.get("/v1/orders/20260001", headers={"X-Customer": "alice"}).json()
        command = [str(WORKER_PYTHON), "tests/contract/remote_action.py", f"{actions.url}/webhook", json.dumps(scripts)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        results = json.loads(done.stdout.splitlines()[-1])
    return dict(zip(CONVERSATIONS, results, strict=True)), shipped


@pytest.mark.parametrize("name", SAID)
def test_rasas_own_form_and_actions_give_the_responses(outcome, name):
    """Rasa's unchanged classes run each conversation of CONVERSATIONS; the responses must be those of SAID."""
    assert outcome[0][name]["said"] == SAID[name]


@pytest.mark.parametrize("name", SAID)
def test_order_number_and_digits_are_cleared_after_the_look_up(outcome, name):
    """The slots of the form are empty at the end of each conversation."""
    slots = outcome[0][name]["slots"]
    assert (slots["order_number"], slots["phone_last4"], slots["requested_slot"]) == (None, None, None)


def test_tracking_answer_has_the_shops_carrier_and_number(outcome):
    results, shipped = outcome
    text = results["alice_names_her_order"]["last"]
    assert shipped["carrier"]["zh"] in text
    assert shipped["tracking_number"] in text
